//go:build vm

package main

import (
	"bufio"
	"errors"
	"fmt"
	"log"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// machine is a kind of machine.
type machine struct {
	emulator string
	hardware []string // arguments of the emulator
	console  string   // what the kernel calls the serial line
	options  string   // of the kernel
	dtb      bool     // the kernel needs a device tree
	clock    string   // unless another is wanted
	modules  []string // that are loaded, with all that they need
}

// usbModules are what package hardware needs in all machines.
var usbModules = []string{"i2c-dev", "vhci-hcd", "i2c-tiny-usb", "usbhid", "hid-cp2112", "configfs"}

var machines = map[string]machine{
	"amd64": {
		emulator: "qemu-system-x86_64", console: "ttyS0",
		hardware: []string{"-M", "pc", "-cpu", "max", "-m", "512"}, options: "mitigations=off", clock: "virtual",
		modules: append(usbModules, "gpio-sim", "spi-sc18is602", "spi-selects"),
	},
	"arm": {
		emulator: "qemu-system-arm", console: "ttyS4,115200n8", dtb: true, clock: "real", // with the other it hangs
		hardware: []string{
			"-M", "ast2600-evb", "-smp", "2", "-m", "1024",
			"-device", "tmp105,bus=aspeed.i2c.bus.3,address=0x48",
			"-device", "pca9548,id=mux,bus=aspeed.i2c.bus.4,address=0x70",
			"-device", "tmp105,bus=aspeed.i2c.bus.4/mux/i2c.2,address=0x49",
		},
		modules: append(usbModules, "i2c-aspeed"),
	},
}

func kinds() []string { return slices.Sorted(maps.Keys(machines)) }

// exitLine is what guest prints at the end, followed by the exit code.
const exitLine = "guest: exit "

// start runs the machine and returns the exit code of the program in it.
func (m machine) start(kernel, archive, dtb, clock string, limit time.Duration) (int, error) {
	args := append(m.hardware, "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel, "-initrd", archive, "-append", "console="+m.console+" reboot=t panic=-1 quiet loglevel=3 "+m.options)
	if m.dtb {
		args = append(args, "-dtb", dtb)
	}
	if clock == "virtual" {
		// An instruction takes 2¹ ns, on one core: the pace of the slowest boards.
		args = append(args, "-icount", "shift=1,sleep=off,align=off")
	}
	cmd := exec.Command(m.emulator, args...)
	cmd.Stderr = os.Stderr
	console, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	end := func(why any) {
		log.Print("the machine is switched off: ", why)
		_ = cmd.Process.Kill() // it may have ended
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() { end(<-signals) }()
	timer := time.AfterFunc(limit, func() { end(fmt.Sprintf("%v are over", limit)) })
	defer timer.Stop()

	code := -1
	lines := bufio.NewScanner(console)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		if _, err := fmt.Sscanf(line, exitLine+"%d", &code); err != nil {
			fmt.Println(line)
		}
	}
	err = cmd.Wait()
	if code < 0 {
		return 0, errors.Join(errors.New("the machine ended before the program"), err)
	}
	log.Printf("the machine ran for %v", time.Since(begin).Round(100*time.Millisecond))
	return code, nil
}
