package event

import "testing"

func TestFilterRelations(t *testing.T) {
	for _, test := range []struct {
		a, b             string
		overlap, aCovers bool
	}{
		{"#", "a/b", true, true},
		{"a/#", "a", true, true},
		{"a/#", "a/#", true, true},
		{"a/+", "a/#", true, false},
		{"a/+", "a/b", true, true},
		{"a/b", "a/+", true, false},
		{"+/x", "a/+", true, false},
		{"+/x", "a/y", false, false},
		{"a", "a/b", false, false},
		{"a/b", "a", false, false},
		{"a/b/#", "a/#", true, false},
	} {
		if got := Overlap(test.a, test.b); got != test.overlap || Overlap(test.b, test.a) != got {
			t.Errorf("overlap of %s and %s: got %v", test.a, test.b, got)
		}
		if got := Covers(test.a, test.b); got != test.aCovers {
			t.Errorf("%s covers %s: got %v", test.a, test.b, got)
		}
	}
}

func TestFiltersOverlapIfATopicMatchesBoth(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"a/b", "a/b", true}, {"a/+", "+/b", true}, {"a/#", "a", true}, {"a", "a/#", true}, {"a/+/c", "a/b/#", true},
		{"a/b", "a/c", false}, {"a/b", "a", false}, {"a/+", "a", false}, {"+/x", "a/y", false}, {"#", "a/b/c", true},
	} {
		if Overlap(tt.a, tt.b) != tt.want || Overlap(tt.b, tt.a) != tt.want {
			t.Errorf("%s and %s: want %v", tt.a, tt.b, tt.want)
		}
	}
}

// FuzzCovers: whatever a filter matches is matched by one that covers it.
func FuzzCovers(f *testing.F) {
	for _, s := range [][3]string{
		{"#", "a/b", "a/b"}, {"a/#", "a", "a"}, {"a/+/#", "a/b/#", "a/b"}, {"+/a", "$x/a", "$x/a"}, {"#", "$SYS/#", "$SYS/x"},
		{"/#", "/+", "/"}, {"a/+", "a/#", "a"}, {"+/+", "+/#", "a/b"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, a, b, topic string) {
		if CheckFilter(a) != nil || CheckFilter(b) != nil || CheckTopic(topic) != nil {
			return
		}
		if Covers(a, b) && Match(b, topic) && !Match(a, topic) {
			t.Fatalf("%s is taken to cover %s, but does not match %s", a, b, topic)
		}
		if Covers(a, topic) != Match(a, topic) {
			t.Fatalf("Covers and Match differ on %s and the topic %s", a, topic)
		}
	})
}
