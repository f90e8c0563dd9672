package pgmedic

// Severity ranks a Finding.
type Severity string

// The severities of findings.
const (
	SeverityInfo     Severity = "info"
	SeverityWarn     Severity = "warn"
	SeverityCritical Severity = "critical"
)

// Rank orders severities: higher is worse; an unknown one is 0.
func (s Severity) Rank() int {
	switch s {
	case SeverityCritical:
		return 3
	case SeverityWarn:
		return 2
	case SeverityInfo:
		return 1
	}
	return 0
}

// Finding is one judgement about a server, with what it rests on and what
// mends it.
type Finding struct {
	// ID is stable and documented: foreign-key-without-index.
	ID       string   `json:"id"`
	Section  string   `json:"section"`
	Severity Severity `json:"severity"`
	// Database is where the object is and the fix must be run, empty where
	// the report is of that database.
	Database string `json:"database,omitempty"`
	// Object is what the finding is about, quoted as SQL where it needs to be.
	Object string `json:"object"`
	// Summary is one plain sentence.
	Summary  string     `json:"summary"`
	Evidence []Evidence `json:"evidence"`
	// Fix is SQL or a setting, ready to paste; Risk is what applying it costs.
	Fix  string `json:"fix,omitempty"`
	Risk string `json:"risk,omitempty"`
	// Docs is the page that explains the finding, relative to docs/.
	Docs string `json:"docs"`
}

// Evidence is one number that a finding rests on.
type Evidence struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}
