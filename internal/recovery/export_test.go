package recovery

// Segments is for tests: the names that Folder writes, and those that it lists as absent.
func (p *Plan) Segments() (needed, absent map[string]bool) {
	needed, absent = map[string]bool{}, map[string]bool{}
	_ = p.segments(func(name string, a Answer) error {
		if a == Needed {
			needed[name] = true
		} else {
			absent[name] = true
		}
		return nil
	})
	return needed, absent
}
