// Package bme280 drives Bosch's BME280, a sensor for temperature, pressure and
// humidity, and the BMP280 without the last, at an I²C or SPI bus, by periph's
// bmxx80.
//
//	reading      unit  range            resolution  accuracy
//	temperature  Cel   -40 … 85         0.01        ±1 (0 … 65 °C)
//	pressure     Pa    30 000 … 110 000 0.18        ±100 (0 … 65 °C)
//	humidity     %RH   0 … 100          0.008       ±3 (20 … 80 %RH, 25 °C)
//
// These are from the data sheet BST-BME280-DS002, revision 1.6, section 1, from
// page 8. The pressure is the one at the sensor, not reduced to sea level.
//
// The chip sleeps between readings and measures once for each (forced mode,
// section 3.3.3, page 15), without the filter, which belongs to continuous
// measurement. With oversampling n a reading takes 2 + 6·n ms (section 9.1, page
// 51), during which the bus is free.
//
// A chip whose supply failed between two readings has lost its settings and
// would report a humidity that it did not measure: each reading checks for
// that, and sets the chip up again.
package bme280
