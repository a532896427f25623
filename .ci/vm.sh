#!/usr/bin/env bash
# What the virtual machine of devices/vmtest boots.
#
#   vm.sh DIR amd64    Debian's kernel as it is, for a PC
#   vm.sh DIR arm      the same for an ARM board
#
# Leaves in DIR the kernel vmlinuz, some of its modules in modules, the device
# tree of the board in dtb, and its version. Does nothing if they are there
# already. The packages are only unpacked, never installed.
#
# The kernel for PCs lacks the modules gpio-sim and spi-sc18is602, so they are built
# from the same kernel's source against the installed linux-headers-amd64.
set -euo pipefail

dir=$(realpath -m "$1") arch=$2
recipe=$(cksum <"$0")
modules=(i2c-dev i2c-tiny-usb vhci-hcd usbip-core usbcore usb-common usbhid hid hid-generic hid-cp2112 configfs)

apt=()
# fetch downloads a package to this folder, and prints the name of its file.
fetch() {
	rm -f -- "$1"_*.deb
	if ! apt-get "${apt[@]}" download -qq "$1" >&2; then # the lists may be old
		apt-get "${apt[@]}" update -qq >&2 && apt-get "${apt[@]}" download -qq "$1" >&2
	fi
	echo "$1"_*.deb
}

# unpack takes the kernel and the modules out of its package.
unpack() {
	local m
	mkdir -p tree "$dir.new/modules"
	dpkg-deb --fsys-tarfile "$1" | tar -x -C tree
	rm -f "$1"
	cp tree/boot/vmlinuz-* "$dir.new/vmlinuz"
	for m in "${modules[@]}"; do
		find tree -name "$m.ko*" -exec cp -t "$dir.new/modules" {} +
	done
	find "$dir.new/modules" -name '*.xz' -exec xz --decompress {} +
}

# build makes the modules that Debian leaves out, for the kernel of a version.
# gpio-sim needs irq_sim, another part that is missing, so the two become one;
# irq_sim then has to use a function that modules may use. spi-selects is our own:
# on boards the device tree says which selects of an SPI bus spidev has.
build() {
	local source
	source=$(apt-cache depends --no-recommends linux-source | awk '/Depends: linux-source/ { print $2 }')
	mkdir -p build && cd build
	dpkg-deb --fsys-tarfile "$(fetch "$source")" | tar -xO "./usr/src/$source.tar.xz" |
		tar -xJ --strip-components=1 "$source"/{drivers/gpio/gpio-sim.c,drivers/gpio/gpiolib.h,kernel/irq/irq_sim.c,drivers/spi/spi-sc18is602.c}
	cp drivers/gpio/gpio-sim.c chip.c
	cp drivers/gpio/gpiolib.h drivers/spi/spi-sc18is602.c .
	sed 's/handle_simple_irq(irq_to_desc(irqnum))/generic_handle_irq_safe(irqnum)/' kernel/irq/irq_sim.c >irq_sim.c
	cat >spi-selects.c <<-'END'
		#include <linux/i2c.h>
		#include <linux/module.h>
		#include <linux/spi/spi.h>

		static int is_bus(struct device *d, void *unused)
		{
			return d->class && !strcmp(d->class->name, "spi_master");
		}

		/* The name of a bridge, when it is written, has the first two selects of its
		   bus given to spidev, by a name that spidev knows. */
		static int give(const char *name, const struct kernel_param *p)
		{
			struct spi_board_info info = { .modalias = "dh2228fv", .max_speed_hz = 10000000 };
			struct device *bridge = bus_find_device_by_name(&i2c_bus_type, NULL, name);
			struct device *child = bridge ? device_find_child(bridge, NULL, is_bus) : NULL;
			struct spi_controller *bus = container_of(child, struct spi_controller, dev);

			if (child)
				for (; info.chip_select < 2; info.chip_select++)
					spi_new_device(bus, &info);
			put_device(child);
			put_device(bridge);
			return child ? 0 : -ENODEV;
		}

		static const struct kernel_param_ops ops = { .set = give };
		module_param_cb(bridge, &ops, NULL, 0200);
		MODULE_LICENSE("Dual MIT/GPL");
		MODULE_DESCRIPTION("Gives the selects of an SPI bus to spidev");
	END
	printf 'obj-m := gpio-sim.o spi-sc18is602.o spi-selects.o\ngpio-sim-y := chip.o irq_sim.o\n' >Kbuild
	make -s -C "/usr/src/linux-headers-$1" M="$PWD" modules
	cp ./*.ko "$dir.new/modules"
	cd ..
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch" "$dir.new"' EXIT
cd "$scratch"

case $arch in
amd64)
	version=$(dpkg-query -W -f='${Depends}' linux-headers-amd64 | grep -oE 'linux-headers-[^ ,]+-amd64' | head -n 1)
	version=${version#linux-headers-}
	;;
arm)
	# Lists of packages of its own, so that those of the machine stay as they are.
	modules+=(i2c-aspeed gpio-aspeed i2c-mux i2c-mux-pca954x)
	mkdir -p lists/partial archives/partial
	apt=(-o APT::Architecture=armhf -o APT::Architectures=armhf -o Dir::State::lists="$scratch/lists" -o Dir::State::status=/dev/null
		-o Dir::Cache="$scratch" -o Acquire::Languages=none -o APT::Sandbox::User=)
	apt-get "${apt[@]}" update -qq || echo "vm.sh: some lists are missing, going on with the others" >&2
	version=$(apt-cache "${apt[@]}" depends --no-recommends linux-image-armmp | grep -oE 'linux-image-[^ ]+-armmp' | tail -n 1)
	version=${version#linux-image-}
	;;
*)
	echo "vm.sh: there is no kernel for $arch" >&2
	exit 2
	;;
esac
[ "$(cat "$dir/version" 2>/dev/null)" = "$version $recipe" ] && exit 0

rm -rf "$dir.new"
mkdir -p "$dir.new"
unpack "$(fetch "linux-image-$version")"
if [ "$arch" = amd64 ]; then
	build "$version"
else
	find tree -name aspeed-ast2600-evb.dtb -exec cp {} "$dir.new/dtb" \;
fi
echo "$version $recipe" >"$dir.new/version"
rm -rf "$dir"
mv "$dir.new" "$dir"
