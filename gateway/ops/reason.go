package ops

// Degrade notes something that needs attention but keeps no promise from
// being kept.
func (s *Status) Degrade(reason string) {
	if s.State == OK {
		s.State = Degraded
	}
	s.Reasons = append(s.Reasons, reason)
}

// Fail notes why events cannot be taken; it comes before all other reasons.
func (s *Status) Fail(reason string) {
	s.State = Failed
	s.Reasons = append([]string{reason}, s.Reasons...)
}
