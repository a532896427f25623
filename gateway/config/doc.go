// Package config turns YAML into typed settings and every mistake in it into
// an [Error] with file, line and column. It knows no part of the gateway by
// name: each part describes its own settings as a struct and decodes them from
// its [Section].
//
//	var settings struct {
//		URL     string          `config:"url,required"`
//		Format  string          `config:"format,oneof=ndjson|json"`
//		Timeout config.Duration `config:"timeout,min=1ms"`
//	}
//	settings.Format = "ndjson" // what is in the struct is the default
//	if err := section.Decode(&settings); err != nil {
//		return nil, err // config.Errors, all mistakes at once
//	}
//
// Decoding is strict: unknown keys are errors that name the nearest known one,
// and values must fit the type of their field. Field types are string, bool,
// numbers, [Duration], time.Duration, [Size], [Path], [Secret], [Expr], any
// encoding.TextUnmarshaler, structs, pointers, slices and maps of these, and
// [*Section] and [Named] for parts that someone else will decode. A slice also
// accepts one scalar. Fields without a config tag are left alone; the keys of
// an embedded struct belong to the mapping around it.
//
// Inside values, ${NAME} is replaced by the environment variable NAME, which
// must be set; $${ stands for a plain ${. Keys and expressions ([Expr]) are
// taken as they are written. In a [Secret], ${file:PATH} is replaced by the
// content of a file.
//
// Sections and what was decoded from them are read-only and may be shared by
// goroutines.
package config
