package event

import "strings"

// Covers reports whether filter a matches every topic that b matches, which
// may be a topic itself. It may miss that where it takes more than one look at
// each level: +/# is not taken to cover #.
func Covers(a, b string) bool {
	if strings.HasPrefix(b, "$") && (a[0] == '+' || a[0] == '#') { // [MQTT-4.7.2-1]
		return false
	}
	for {
		x, restA, moreA := strings.Cut(a, "/")
		if x == "#" {
			return true
		}
		y, restB, moreB := strings.Cut(b, "/")
		if y == "#" || x != "+" && x != y {
			return false
		}
		switch {
		case !moreA || !moreB:
			return !moreB && (!moreA || restA == "#") // a/# matches a
		default:
			a, b = restA, restB
		}
	}
}

// Overlap reports whether a topic exists that both filters match.
func Overlap(a, b string) bool {
	for {
		x, aRest, aMore := strings.Cut(a, "/")
		y, bRest, bMore := strings.Cut(b, "/")
		switch {
		case x == "#" || y == "#":
			return true
		case x != y && x != "+" && y != "+":
			return false
		case !aMore || !bMore:
			return aMore == bMore || aRest == "#" || bRest == "#"
		}
		a, b = aRest, bRest
	}
}
