package config

import (
	"strings"
	"testing"
)

func TestAShareIsAPercentage(t *testing.T) {
	for text, want := range map[string]float64{"20%": 0.2, "0.5 %": 0.005, "100%": 1} {
		var p Percent
		if err := p.UnmarshalText([]byte(text)); err != nil || p.Part() < want-1e-9 || p.Part() > want+1e-9 {
			t.Errorf("%q is %v, %v; want %v", text, p.Part(), err, want)
		}
		var again Percent
		if err := again.UnmarshalText([]byte(p.String())); err != nil || again != p {
			t.Errorf("%q is written as %q, which is %v, %v", text, p, again, err)
		}
	}
	for text, want := range map[string]string{"0.2": "write one such as 20%", "": "is not a share", "-1%": "is not a share", "0%": "more than 0%", "101%": "at most 100%", "20%%": "is not a share"} {
		var p Percent
		if err := p.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
