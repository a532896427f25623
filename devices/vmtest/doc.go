// Package vmtest tries devices on a real Linux kernel. With the build tag vm its
// test binary is the one program of a small virtual machine that boots the
// kernel of Debian as it is: the suites of package devicetest, and holdfast
// itself, run there on /dev/i2c-N, /dev/spidevN.M and /dev/gpiochipN.
//
// There is no hardware behind these files. Package hardware plays USB adapters
// with the models of package sim at their far ends, so that everything between
// an I²C transfer and the wire is the kernel's own, and makes chips with lines.
//
// The command boot packs the test binary, the kernel's modules and the command
// guest, which is the machine's first process, and starts an emulator. The
// machine's clock counts instructions and jumps ahead while there is nothing to
// do: waiting costs no time, and a busy host makes nothing late. The ARM board's
// is that of the host.
//
// `.ci/run vm` does all of it; `.ci/vm.sh` fetches the kernel.
package vmtest
