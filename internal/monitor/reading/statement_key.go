package reading

// StatementsShown is how many statements are kept by each measure.
const StatementsShown = 20

// StatementKey tells entries apart: one statement has one for each role and
// database, and one at the top level beside one within functions.
type StatementKey struct {
	id, database, user string
	nested             bool
}

// Hidden reports whether this role may not see which statement it is: then it
// can't be told from others.
func (s *Statement) Hidden() bool { return s.QueryID == "" }

// KeyOf returns the key of an entry.
func KeyOf(s *Statement) StatementKey {
	return StatementKey{s.QueryID, s.Database, s.User, s.Toplevel != nil && !*s.Toplevel}
}

// Less is what was counted after other.
func (c StatementCounts) Less(other *StatementCounts) StatementCounts {
	return StatementCounts{
		Calls: c.Calls - other.Calls, ExecSeconds: c.ExecSeconds - other.ExecSeconds, PlanSeconds: c.PlanSeconds - other.PlanSeconds,
		Rows: c.Rows - other.Rows, HitBytes: c.HitBytes - other.HitBytes, ReadBytes: c.ReadBytes - other.ReadBytes,
		TempBytes: c.TempBytes - other.TempBytes, IOSeconds: c.IOSeconds - other.IOSeconds, WALBytes: c.WALBytes - other.WALBytes,
	}
}
