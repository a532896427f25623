package rules

import (
	"maps"
	"slices"
	"strings"
)

// unit is a unit of measurement by the base unit of its dimension:
// base = (value - zero) × num / den.
type unit struct {
	dimension      string
	num, den, zero float64
}

// unitsOf are the units that convert knows: those of SenML (RFC 8428 section
// 12.1) where it has a symbol, and what people write. Factors are those of the
// SI brochure and of NIST SP 811.
var unitsOf = map[string]unit{
	"K": {"temperature", 1, 1, 273.15}, "Cel": {"temperature", 1, 1, 0}, "degC": {"temperature", 1, 1, 0}, "°C": {"temperature", 1, 1, 0},
	"degF": {"temperature", 5, 9, 32}, "°F": {"temperature", 5, 9, 32},
	"Pa": {"pressure", 1, 1, 0}, "hPa": {"pressure", 100, 1, 0}, "kPa": {"pressure", 1000, 1, 0}, "MPa": {"pressure", 1e6, 1, 0}, "mbar": {"pressure", 100, 1, 0},
	"bar": {"pressure", 1e5, 1, 0}, "psi": {"pressure", 6894.757293168361, 1, 0}, "atm": {"pressure", 101325, 1, 0}, "mmHg": {"pressure", 26664477483, 2e8, 0},
	"m": {"length", 1, 1, 0}, "mm": {"length", 1, 1000, 0}, "cm": {"length", 1, 100, 0}, "km": {"length", 1000, 1, 0}, "um": {"length", 1, 1e6, 0},
	"in": {"length", 127, 5000, 0}, "ft": {"length", 381, 1250, 0}, "mi": {"length", 201168, 125, 0},
	"m/s": {"speed", 1, 1, 0}, "mm/s": {"speed", 1, 1000, 0}, "km/h": {"speed", 10, 36, 0}, "mph": {"speed", 1397, 3125, 0}, "kn": {"speed", 1852, 3600, 0}, "in/s": {"speed", 127, 5000, 0},
	"m/s2": {"acceleration", 1, 1, 0}, "gn": {"acceleration", 196133, 2e4, 0},
	"g": {"mass", 1, 1000, 0}, "kg": {"mass", 1, 1, 0}, "t": {"mass", 1000, 1, 0}, "lb": {"mass", 45359237, 1e8, 0}, "oz": {"mass", 45359237, 16e8, 0},
	"m3": {"volume", 1, 1, 0}, "l": {"volume", 1, 1000, 0}, "ml": {"volume", 1, 1e6, 0}, "gal": {"volume", 473176473, 125e9, 0},
	"m3/s": {"flow", 1, 1, 0}, "m3/h": {"flow", 1, 3600, 0}, "l/s": {"flow", 1, 1000, 0}, "l/min": {"flow", 1, 6e4, 0}, "gpm": {"flow", 3785411784, 6e13, 0},
	"J": {"energy", 1, 1, 0}, "kJ": {"energy", 1000, 1, 0}, "MJ": {"energy", 1e6, 1, 0}, "Wh": {"energy", 3600, 1, 0}, "kWh": {"energy", 36e5, 1, 0}, "MWh": {"energy", 36e8, 1, 0}, "cal": {"energy", 523, 125, 0},
	"W": {"power", 1, 1, 0}, "mW": {"power", 1, 1000, 0}, "kW": {"power", 1000, 1, 0}, "MW": {"power", 1e6, 1, 0}, "hp": {"power", 745.6998715822702, 1, 0},
	"A": {"current", 1, 1, 0}, "mA": {"current", 1, 1000, 0}, "uA": {"current", 1, 1e6, 0},
	"V": {"voltage", 1, 1, 0}, "mV": {"voltage", 1, 1000, 0}, "kV": {"voltage", 1000, 1, 0},
	"s": {"time", 1, 1, 0}, "ms": {"time", 1, 1000, 0}, "us": {"time", 1, 1e6, 0}, "min": {"time", 60, 1, 0}, "h": {"time", 3600, 1, 0}, "d": {"time", 86400, 1, 0},
	"Hz": {"frequency", 1, 1, 0}, "kHz": {"frequency", 1000, 1, 0}, "rpm": {"frequency", 1, 60, 0},
	"rad": {"angle", 1, 1, 0}, "deg": {"angle", 0.017453292519943295, 1, 0},
	"/": {"ratio", 1, 1, 0}, "%": {"ratio", 1, 100, 0}, "%RH": {"ratio", 1, 100, 0}, "ppm": {"ratio", 1, 1e6, 0},
	"B": {"data", 1, 1, 0}, "kB": {"data", 1000, 1, 0}, "MB": {"data", 1e6, 1, 0}, "KiB": {"data", 1024, 1, 0}, "MiB": {"data", 1048576, 1, 0}, "bit": {"data", 1, 8, 0},
}

// convert returns x in another unit. Factors are ratios, so that round values
// stay round.
func convert(x float64, from, to unit) float64 {
	num, den := from.num*to.den, from.den*to.num
	return (x-from.zero)*num/den + to.zero
}

// unitNames lists the units of a dimension, or all of them.
func unitNames(dimension string) string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(unitsOf)), func(n string) bool {
		return dimension != "" && unitsOf[n].dimension != dimension
	})
	return strings.Join(names, ", ")
}
