package ops

import "slices"

// Degrade notes something that needs attention but keeps no promise from
// being kept. What has been noted in the same words is not noted again.
func (s *Status) Degrade(reason string) {
	if s.State == OK {
		s.State = Degraded
	}
	if !slices.Contains(s.Reasons, reason) {
		s.Reasons = append(s.Reasons, reason)
	}
}

// Fail notes why events cannot be taken; it comes before all other reasons.
func (s *Status) Fail(reason string) {
	s.State = Failed
	s.Reasons = append([]string{reason}, s.Reasons...)
}
