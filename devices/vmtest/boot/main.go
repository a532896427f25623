//go:build vm

// Command boot runs a statically linked program, such as a Go test binary, as
// the only one of a virtual machine, and ends with its exit code.
//
//	boot -system DIR -guest FILE [-file NAME=FILE] PROGRAM [ARGUMENT...]
//
// DIR has the kernel and its modules, as .ci/vm.sh leaves them. There is no
// hardware in a PC but a serial line, memory, and a processor; the ARM board has
// chips at its own I²C buses too.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// files are further files of the machine, by name.
type files map[string]string

func (f files) String() string { return "" }

func (f files) Set(text string) error {
	name, file, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("write it as NAME=FILE")
	}
	f[name] = file
	return nil
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("boot: ")
	extra := files{}
	var (
		system = flag.String("system", "", "folder with the kernel and its modules")
		guest  = flag.String("guest", "", "the command guest")
		arch   = flag.String("arch", "amd64", "kind of machine: "+strings.Join(kinds(), ", "))
		clock  = flag.String("clock", "", "virtual: counts instructions and jumps when idle; real: that of the host; default: what the machine can")
		limit  = flag.Duration("limit", 3*time.Minute, "the longest that the machine may run")
	)
	flag.Var(extra, "file", "a further file of the machine, NAME=FILE; may be repeated")
	flag.Parse()
	m, ok := machines[*arch]
	if !ok || *system == "" || *guest == "" || flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if *clock == "" {
		*clock = m.clock
	}
	dir, err := os.MkdirTemp("", "boot")
	if err != nil {
		log.Fatal(err)
	}
	code, err := run(m, dir, *system, *guest, *clock, *limit, extra, flag.Args())
	os.RemoveAll(dir)
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func run(m machine, dir, system, guest, clock string, limit time.Duration, extra files, program []string) (int, error) {
	kernel, err := unpackKernel(filepath.Join(system, "vmlinuz"), filepath.Join(dir, "kernel"))
	if err != nil {
		return 0, err
	}
	ordered, err := order(filepath.Join(system, "modules"), m.modules)
	if err != nil {
		return 0, err
	}
	archive := filepath.Join(dir, "initramfs")
	if err := pack(archive, guest, ordered, extra, program); err != nil {
		return 0, err
	}
	return m.start(kernel, archive, filepath.Join(system, "dtb"), clock, limit)
}

// pack writes the archive that is the machine's root.
func pack(archive, guest string, ordered []string, extra files, program []string) error {
	var a cpio
	for _, dir := range []string{"dev", "proc", "sys", "tmp", "modules.d"} {
		a.folder(dir)
	}
	a.console("dev/console")
	a.copy("init", guest)
	a.copy("test", program[0])
	a.add("args", []byte(strings.Join(program[1:], "\n")))
	var list []string
	for _, file := range ordered {
		name := "modules.d/" + filepath.Base(file)
		a.copy(name, file)
		list = append(list, "/"+name)
	}
	a.add("modules", []byte(strings.Join(list, "\n")))
	for name, file := range extra {
		a.copy(name, file)
	}
	return a.write(archive)
}
