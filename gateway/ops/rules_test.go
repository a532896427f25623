package ops

import (
	"strings"
	"testing"
)

func TestRulesAreEnabledDisabledAndShown(t *testing.T) {
	f := &fake{}
	_, _, c := start(t, f)
	if err := c.SetRule(t.Context(), "hot", true); err != nil || !f.enabled {
		t.Errorf("enable: %v, %v", err, f.enabled)
	}
	if err := c.SetRule(t.Context(), "hot", false); err != nil || f.enabled {
		t.Errorf("disable: %v, %v", err, f.enabled)
	}
	if err := c.SetRule(t.Context(), "hat", true); err == nil || !strings.Contains(err.Error(), `no rule "hat"`) {
		t.Errorf("an unknown rule: %v", err)
	}
	b, err := c.RuleState(t.Context(), "hot", "a/b c")
	if want := "{\n  \"key\": \"a/b c\",\n  \"rule\": \"hot\"\n}\n"; err != nil || string(b) != want {
		t.Errorf("state: %q, %v, want %q", b, err, want)
	}
}
