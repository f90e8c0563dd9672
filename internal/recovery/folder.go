package recovery

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/pgmedic/pgmedic/internal/wal"
)

// absentName is a file with the names of the segments that do not exist by the plan.
const absentName = "absent"

// InPlace has every tablespace that WAL creates lie within the data folder, wherever it was:
// the path of none is used, and a record has room for that, however short its path.
// PostgreSQL replays such records from 12.12, 13.8, 14.5 and 15 on, where
// allow_in_place_tablespaces is on. The plan can't be written into a file then.
func (p *Plan) InPlace() { p.inPlace = true }

// segments calls f with the names by which PostgreSQL may ask for WAL of the plan, and what
// it gets.
func (p *Plan) segments(f func(name string, a Answer) error) error {
	size := p.size()
	timelines := []wal.Timeline{p.WAL.Timeline}
	for _, s := range p.Switches {
		timelines = append(timelines, s.Timeline)
	}
	for start := size.Start(p.WAL.Base.Start); start <= size.Start(p.Through-1)+wal.LSN(size); start += wal.LSN(size) {
		for _, t := range timelines {
			name := size.Name(wal.Segment{Timeline: t, Start: start})
			answer, err := p.Answer(name)
			if err != nil { // it is not part of the recovery
				continue
			}
			if err := f(name, answer); err != nil {
				return err
			}
		}
	}
	return nil
}

// SegmentBytesToFetch is how much Folder writes in segments.
func (p *Plan) SegmentBytesToFetch() (n int64) {
	_ = p.segments(func(_ string, a Answer) error { // which has no error of its own
		if a == Needed {
			n += p.SegmentBytes
		}
		return nil
	})
	return n
}

// Folder writes all WAL of the plan into an empty folder, for FolderCommand, and returns
// its size. More tells how many bytes were added; nil disables that.
func (f *Fetcher) Folder(ctx context.Context, dir *os.Root, more func(int64)) (written int64, err error) {
	var absent strings.Builder
	for _, t := range append([]wal.Switch{{Timeline: f.plan.WAL.Timeline}}, f.plan.Switches...) {
		name := wal.HistoryName(t.Timeline)
		if answer, err := f.plan.Answer(name); err != nil || answer != Needed {
			continue
		}
		if _, err := f.file(ctx, dir, name); err != nil {
			return written, err
		}
	}
	err = f.plan.segments(func(name string, a Answer) error {
		if a != Needed {
			absent.WriteString(name + "\n")
			return nil
		}
		n, err := f.file(ctx, dir, name)
		if written += n; more != nil {
			more(n)
		}
		return err
	})
	if err != nil {
		return written, err
	}
	if err := dir.WriteFile(absentName, []byte(absent.String()), 0o600); err != nil {
		return written, fmt.Errorf("write the WAL of the recovery: %w", err)
	}
	return written, nil
}

// file fetches one.
func (f *Fetcher) file(ctx context.Context, dir *os.Root, name string) (int64, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	out, err := dir.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, fmt.Errorf("write the WAL of the recovery: %w", err)
	}
	counted := &counter{to: out}
	err = f.Fetch(ctx, name, counted)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	return counted.n, err
}

type counter struct {
	to *os.File
	n  int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.n += int64(n)
	return n, err
}

// FolderCommand is restore_command for WAL in a folder that Folder has written. It must be
// a path that a shell and PostgreSQL read as it is. What the plan says does not exist, and
// any other history, is 1, by which PostgreSQL ends the recovery; everything else that
// can't be given is 255, by which it stops with an error.
func FolderCommand(folder string) string {
	return strings.ReplaceAll(`if [ -f FOLDER/%f ]; then cp FOLDER/%f "%p" && exit 0; echo "error: %f can not be copied" >&2; exit 255; fi; `+
		`case %f in *.history) exit 1;; esac; `+
		`grep -qxF %f FOLDER/`+absentName+` && exit 1; `+
		`echo "error: PostgreSQL asked for %f, which is not part of the recovery" >&2; exit 255`, "FOLDER", folder)
}
