package rules

import (
	"slices"

	"github.com/expr-lang/expr/builtin"
)

// forbidden are functions of expr whose result depends on more than their
// arguments, with the reason as the user sees it.
var forbidden = map[string]string{
	"now":      "a rule depends on its events only; use time or received",
	"date":     "it depends on the time zone of the machine; use time.field or compare texts",
	"timezone": "it depends on the time zone files of the machine",
	"keys":     "its order is random",
	"values":   "its order is random",
	"toPairs":  "its order is random",
	"repeat":   "its result may take any amount of memory",
}

// signature says how the kinds of fields follow from being arguments. expr's
// own checker does the rest.
type signature struct {
	args   []kind // of the first arguments
	rest   kind   // of those behind them, if there is more than one argument at all
	result kind
}

var (
	oneNumber = signature{args: []kind{number}, result: number}
	oneText   = signature{args: []kind{text, text}, result: text}
	twoTexts  = signature{args: []kind{text, text}, result: number}
)

var signatures = map[string]signature{
	"abs": oneNumber, "ceil": oneNumber, "floor": oneNumber, "round": oneNumber,
	"len": {result: number}, "int": {result: number}, "float": {result: number},
	"max": {rest: number, result: number}, "min": {rest: number, result: number},
	"mean": {rest: number, result: number}, "median": {rest: number, result: number},
	"sum": {result: number}, "count": {result: number},
	"findIndex": {result: number}, "findLastIndex": {result: number},
	"type": {result: text}, "string": {result: text}, "toJSON": {result: text}, "join": {result: text},
	"trim": oneText, "trimPrefix": oneText, "trimSuffix": oneText, "upper": oneText, "lower": oneText,
	"toBase64": oneText, "fromBase64": oneText,
	"replace": {args: []kind{text, text, text, number}, result: text},
	"split":   {args: []kind{text, text, number}, result: list}, "splitAfter": {args: []kind{text, text, number}, result: list},
	"indexOf": twoTexts, "lastIndexOf": twoTexts,
	"hasPrefix": {args: []kind{text, text}, result: truth}, "hasSuffix": {args: []kind{text, text}, result: truth},
	"all": {result: truth}, "none": {result: truth}, "any": {result: truth}, "one": {result: truth},
	"filter": {result: list}, "map": {result: list}, "sortBy": {result: list},
	"groupBy": {result: mapping}, "fromJSON": {args: []kind{text}},
	"duration": {args: []kind{text}, result: duration},
}

// methods are the methods of times and durations that depend on nothing else,
// with the kinds of their results. Times are in UTC.
var methods = map[string]kind{
	"Year": number, "YearDay": number, "Day": number, "Hour": number, "Minute": number, "Second": number,
	"Nanosecond": number, "Unix": number, "UnixMilli": number, "UnixMicro": number, "UnixNano": number,
	"Hours": number, "Minutes": number, "Seconds": number, "Milliseconds": number, "Microseconds": number,
	"Nanoseconds": number, "Format": text, "String": text,
}

// functionNames lists what can be called, for suggestions.
func functionNames() []string {
	names := slices.DeleteFunc(slices.Clone(builtin.Names), func(name string) bool { return forbidden[name] != "" })
	return append(names, "field", "level")
}
