// Package recovery is the plan of one recovery of a cluster, and what PostgreSQL gets by
// it: which files of WAL exist for it, and which do not.
//
// A restore writes the plan into the data folder, and each run of `pgmedic wal fetch` reads
// it there. PostgreSQL takes a file that does not exist for the end of the WAL and opens the
// server, so that only the plan may say that one does not: a store that is away can't.
package recovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/wal"
)

const (
	// FileName is that of the plan, in the data folder.
	FileName = "pgmedic-recovery.json"
	// LeaseFileName is that of what remembers, beside the plan, when the lease of its WAL was
	// renewed.
	LeaseFileName = "pgmedic-recovery-lease.json"

	// PlanFormat is the number of the format of plans.
	PlanFormat   = 1
	maxPlanBytes = 1 << 20
	// maxListed bounds each list of a plan.
	maxListed = 10_000
)

// Tablespace is where a tablespace lies on the server that was backed up, and where on the
// one that recovers: the same path where it stays.
type Tablespace struct {
	OID  uint32 `json:"oid,omitempty"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Plan is what one recovery does.
type Plan struct {
	Format int `json:"format"`
	// Backup is the id of the base backup, and Server the name it is filed under.
	Backup           string    `json:"backup"`
	Server           string    `json:"server"`
	SystemIdentifier string    `json:"system_identifier"`
	Major            int       `json:"major"`
	SegmentBytes     int64     `json:"segment_bytes"`
	MadeAt           time.Time `json:"made_at"`
	// Target is what was asked for, in words.
	Target string `json:"target"`
	// WAL is how it is reached.
	WAL wal.Plan `json:"wal"`
	// Switches are the timelines before that on which the recovery ends.
	Switches []wal.Switch `json:"switches"`
	// Through is where the WAL ends that the recovery needs: what is behind it does not
	// exist for PostgreSQL, whatever is stored, so that damage there keeps nothing from
	// being recovered, and no recovery goes on behind its target.
	Through     wal.LSN      `json:"through"`
	Tablespaces []Tablespace `json:"tablespaces"`

	inPlace bool // see InPlace
}

func broken(format string, args ...any) error {
	return pgmedic.Errorf(pgmedic.KindIntegrity, "restore the cluster again: pgmedic restore --target-dir", "the plan of the recovery: "+format, args...)
}

// Check returns an error for a plan that contradicts itself.
func (p *Plan) Check() error {
	w := &p.WAL
	_, idErr := strconv.ParseUint(p.SystemIdentifier, 10, 64)
	switch {
	case p.Format > PlanFormat:
		return pgmedic.Errorf(pgmedic.KindUsage, "use the version of pgmedic that restored the cluster, or a newer one", "the plan of the recovery has format %d, and this version reads up to %d", p.Format, PlanFormat)
	case p.Format != PlanFormat, idErr != nil, p.Server == "", p.Backup == "":
		return broken("it is not whole")
	case !p.size().Valid():
		return broken("%d bytes is not a size of WAL segments", p.SegmentBytes)
	case p.WAL.Timeline == 0 || w.Base.Start == 0 || w.Base.Start > w.Base.Stop || p.Through < w.Base.Stop || p.Through < w.End:
		return broken("WAL from %v over %v to %v on timeline %d is not a recovery", w.Base.Start, w.Base.Stop, p.Through, w.Timeline)
	case len(p.Tablespaces) > maxListed, len(p.Switches) > maxListed, len(w.Ranges) > maxListed:
		return broken("it lists too much")
	case (w.Stop == wal.StopAtLSN) != (w.LSN != 0), w.Stop != wal.StopAtLSN && w.Stop != wal.StopAtEnd && w.Stop != wal.StopImmediate:
		return broken("%.40q is not a way to stop", w.Stop)
	}
	last := wal.Switch{}
	for _, s := range p.Switches {
		if s.Timeline <= last.Timeline || s.End < last.End || s.Timeline >= w.Timeline {
			return broken("its timelines are not in order")
		}
		last = s
	}
	for _, t := range p.Tablespaces {
		if err := CheckPlace(t.From); err != nil {
			return err
		}
		if err := CheckPlace(t.To); err != nil {
			return err
		}
	}
	return nil
}

// CheckPlace returns an error of KindUsage for what can't be the path of a tablespace: it
// is absolute, clean, and short enough for PostgreSQL.
func CheckPlace(place string) error {
	const most = 1000 // MAXPGPATH, less what PostgreSQL appends
	if !path.IsAbs(place) || path.Clean(place) != place || place == "/" || len(place) > most || strings.ContainsAny(place, "\x00\n\r") {
		return pgmedic.Errorf(pgmedic.KindUsage, "write an absolute path, such as /srv/tablespace", "%.200q can't be the path of a tablespace", place)
	}
	return nil
}

func (p *Plan) size() wal.SegmentSize { return wal.SegmentSize(max(p.SegmentBytes, 0)) }

// System returns the system identifier.
func (p *Plan) System() uint64 {
	id, _ := strconv.ParseUint(p.SystemIdentifier, 10, 64) // which Check has read
	return id
}

// History returns the timelines of the recovery.
func (p *Plan) History() wal.History {
	return wal.History{Timeline: p.WAL.Timeline, Switches: p.Switches}
}

// Encode returns the plan as it stands in its file.
func (p *Plan) Encode() ([]byte, error) {
	p.Format = PlanFormat
	if err := p.Check(); err != nil {
		return nil, err
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the plan of the recovery: %w", err)
	}
	return append(text, '\n'), nil
}

// Read reads a plan. One that is missing or damaged is an error, since nothing else says
// where the WAL ends.
func Read(file string) (*Plan, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, pgmedic.Errorf(pgmedic.KindNotFound, "restore the cluster again: pgmedic restore --target-dir", "the plan of the recovery, %s, does not exist", file)
	}
	if err != nil {
		return nil, pgmedic.Errorf(pgmedic.KindUnreachable, "let the user that runs PostgreSQL read it", "read the plan of the recovery: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPlanBytes+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("read the plan of the recovery: %w", err)
	}
	p := &Plan{}
	if len(text) > maxPlanBytes || json.Unmarshal(text, p) != nil {
		return nil, broken("%s is damaged", file)
	}
	return p, p.Check()
}

// Place returns where a tablespace goes that WAL creates at a path.
func (p *Plan) Place(from string) (string, error) {
	if p.inPlace {
		return "", nil
	}
	for _, t := range p.Tablespaces {
		if t.From == path.Clean(from) {
			return t.To, nil
		}
	}
	return "", pgmedic.Errorf(pgmedic.KindConflict, fmt.Sprintf("restore again, and say where it goes: --tablespace %s=/another/path", from),
		"the WAL creates a tablespace at %.200q, and the plan of the recovery does not say where it goes", from)
}

// part is what the name of a file ends with while it is written.
const part = ".pgmedic-part"

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
