package reading

import "time"

// Recovery is to which moments the server can be recovered from base backups and stored
// WAL. Collect leaves it nil: the owner of a store fills it in.
type Recovery struct {
	// State is that of the stored WAL: ok, behind, unknown, broken or none; Why says it in
	// words.
	State string `json:"state"`
	Why   string `json:"why"`
	// Timeline is the one on which the server was seen last.
	Timeline uint32 `json:"timeline"`
	// From and Until are of the range of moments on it, by the server's clock, that goes
	// furthest; nil where there is none, or where no time is known.
	From  *time.Time `json:"from"`
	Until *time.Time `json:"until"`
	// Reaches is true where a base backup in the store, with the WAL since then, reaches up
	// to the end of what is stored. Unlisted is true where only base backups do so that are
	// not in the store, of which the WAL says that they were taken.
	Reaches  bool `json:"reaches"`
	Unlisted bool `json:"unlisted"`
	// Proven is the newest moment on the timeline that a drill has proven; nil where there is
	// none. ClaimedDrills counts the drills whose receipts the host that read them could not
	// authenticate: they prove nothing.
	Proven        *ProvenMoment `json:"proven"`
	ClaimedDrills int           `json:"claimed_drills"`
	// BaseBackups is how many base backups of the server are in the store.
	BaseBackups int `json:"base_backups"`
	// LagBytes is how much WAL the server is known to have that is not stored, and Gaps how
	// many ranges are missing between what is stored.
	LagBytes int64 `json:"lag_bytes"`
	Gaps     int   `json:"gaps"`
	// SeenAt is when the server was seen last.
	SeenAt *time.Time `json:"seen_at"`
	// CommitTimes is false where times are those of observations of the server alone,
	// because the times of commits could not be read.
	CommitTimes bool `json:"commit_times"`
}

// ProvenMoment is a moment that a drill recovered the server to.
type ProvenMoment struct {
	// Until is a time, by the server's clock, up to which all commits were recovered; nil
	// where only the position is known, which LSN is.
	Until *time.Time `json:"until"`
	LSN   string     `json:"lsn"`
	// Backups are the base backup that the drill began with and, if that is incremental, those
	// that it needs, the full one last.
	Backups   []string  `json:"backups"`
	DrilledAt time.Time `json:"drilled_at"`
}
