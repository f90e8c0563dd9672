package test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// chaosVariable names the page that the campaign writes. Where it is not set a
// few cases run and no page is written: the packages' own tests have the rest.
const chaosVariable = "PGMEDIC_CHAOS"

// longestMoment is how long a swap may keep clients from the live database.
const longestMoment = 5 * time.Second

// trialTime is how long a trial may take: none begins later than so long before
// the end of the time that go test gives, so that the page is written.
const trialTime = 3 * time.Minute

// trial is one case of the campaign, and what the page says of it.
type trial struct {
	family, name string
	// done is what befalls the program, want what is to come of it.
	done, want string
	// times is how often it is tried; zero means once.
	times int
	// quick is true for those that make test has. Those alone bear no others
	// beside them.
	quick, alone bool
	run          func(c *chaos)
}

// The families of trials, in the order of the page.
const (
	byKill     = "Killed"
	byServer   = "The connection to PostgreSQL"
	byStore    = "The connection to the store"
	byDisk     = "Disk full"
	byDamage   = "Stored objects damaged"
	byRestart  = "PostgreSQL crashes and recovers"
	byTogether = "Two runs at once"
)

func trials() []trial {
	return slices.Concat(killTrials(), serverTrials(), storeTrials(), diskTrials(), damageTrials(), restartTrials(), togetherTrials())
}

// tally is what came of a trial.
type tally struct {
	trial
	// outcomes counts what was seen, by its name; failed counts repetitions in
	// which it was not what it has to be.
	outcomes map[string]int
	failed   int
}

// record is what came of all trials.
type record struct {
	mu      sync.Mutex
	tallies []*tally
	runs    int
	// silent are successes that were none, looks those at the live database, away
	// the times that it was out of reach and no swap was under way, or for too
	// long, or had wrong rows.
	silent, looks, away int
	// moment is the longest in which a swap kept a look from it.
	moment time.Duration
}

func (r *record) add(t trial) *tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := &tally{trial: t, outcomes: map[string]int{}}
	r.tallies = append(r.tallies, one)
	return one
}

// notRun is how many trials nothing came of.
func (r *record) notRun() (n int) {
	for _, one := range r.tallies {
		if one.failed == 0 && len(one.outcomes) == 0 {
			n++
		}
	}
	return n
}

// chaos is the bench of one repetition of a trial. The trial sets the bench.
type chaos struct {
	*bench
	record *record
	tally  *tally
	watch  *watch
	// bucket is where copies are to be, or the backups are.
	bucket string
}

// saw notes an outcome.
func (c *chaos) saw(format string, args ...any) {
	c.record.mu.Lock()
	defer c.record.mu.Unlock()
	c.tally.outcomes[fmt.Sprintf(format, args...)]++
}

// silent notes a success that was none.
func (c *chaos) silent(format string, args ...any) {
	c.t.Helper()
	c.saw("silent success")
	c.record.mu.Lock()
	c.record.silent++
	c.record.mu.Unlock()
	c.t.Errorf("silent success: "+format, args...)
}

// verdict says of a run that could not succeed whether it says that it did, and
// what else is wrong with how it ended.
func verdict(r result, codes ...int) (silent bool, problem string) {
	switch {
	case r.code == 0:
		return true, "it ends with exit code 0"
	case !slices.Contains(codes, r.code):
		return false, fmt.Sprintf("exit code %d, want %d", r.code, codes)
	case !strings.Contains(r.stderr, "error: "):
		return false, "it does not say why"
	}
	return false, ""
}

// refused notes how a run ended that could not succeed.
func (c *chaos) refused(r result, codes ...int) {
	c.t.Helper()
	silent, problem := verdict(r, codes...)
	switch {
	case silent:
		c.silent("%s\n%s", r.stdout, r.stderr)
		return
	case problem != "":
		c.t.Errorf("%s\n%s", problem, r.stderr)
	}
	wantNoRows(c.t, r)
	c.saw("exit code %d", r.code)
}

// watch looks at the live database all the time.
type watch struct {
	database, sql string
	rows          []string
	// swapping is true while a swap may be under way, down while the trial itself
	// has taken the server away.
	swapping, down atomic.Bool
	pulse          *pulse
	quit           chan struct{}
	done           chan struct{}
	// The rest is the watcher's own until done.
	looks, away int
	problems    []string
	last        time.Time
	moment      time.Duration
}

// startWatch begins to look whether a query on a database answers one of the rows.
func startWatch(database, sql string, rows ...string) *watch {
	w := &watch{database: database, sql: sql, rows: rows, pulse: startPulse(), quit: make(chan struct{}), done: make(chan struct{}), last: time.Now()}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-w.quit:
				w.swapping.Store(false) // nothing is under way any more
				w.down.Store(false)
				w.look()
				return
			case <-tick.C:
				w.look()
			}
		}
	}()
	return w
}

func (w *watch) stop() {
	close(w.quit)
	<-w.done
	w.pulse.stop()
}

// look looks once, as a client does that begins.
func (w *watch) look() {
	excused := w.down.Load()
	answer, err := w.ask()
	if excused || w.down.Load() {
		w.last = time.Now()
		return
	}
	w.looks++
	since := time.Since(w.last)
	longest := longestMoment + w.pulse.stalled()
	switch {
	case err != nil && !w.swapping.Load():
		w.out(fmt.Sprintf("no answer: %v", err))
	case err != nil && since > longest:
		w.out(fmt.Sprintf("no answer for %s: %v", since, err))
	case err != nil:
		w.moment = max(w.moment, since)
		return
	case !slices.Contains(w.rows, answer):
		w.out(fmt.Sprintf("it has %s rows, want %q", answer, w.rows))
	case since > longest:
		w.out(fmt.Sprintf("an answer took %s", since))
	}
	w.last = time.Now()
}

func (w *watch) out(problem string) {
	w.away++
	if len(w.problems) < 5 {
		w.problems = append(w.problems, problem)
	}
}

func (w *watch) ask() (answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.DSN(w.database))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	return answer, conn.QueryRow(ctx, w.sql).Scan(&answer)
}

// live begins to watch the live database, whose visits are so many or so many.
func (c *chaos) live(rows ...string) *watch {
	c.watch = startWatch(c.database, "SELECT count(*)::text FROM public.visits", rows...)
	return c.watch
}

// settleWatch ends the watch and notes what it saw.
func (c *chaos) settleWatch(t *testing.T) {
	w := c.watch
	if w == nil {
		return
	}
	w.stop()
	for _, problem := range w.problems {
		t.Errorf("the live database was out of reach: %s", problem)
	}
	c.record.mu.Lock()
	defer c.record.mu.Unlock()
	c.record.looks += w.looks
	c.record.away += w.away
	c.record.moment = max(c.record.moment, w.moment)
}

// TestChaos has befall the program what may befall it in the field, and writes
// down what came of it.
func TestChaos(t *testing.T) {
	page := os.Getenv(chaosVariable)
	all, rec, began := trials(), &record{}, time.Now()
	chosen := slices.DeleteFunc(all, func(one trial) bool { return page == "" && !one.quick })
	t.Run("trials", func(t *testing.T) {
		for i, one := range chosen {
			note := rec.add(one)
			t.Run(one.family+": "+one.name, func(t *testing.T) {
				if !one.alone {
					t.Parallel()
				}
				times := max(one.times, 1)
				if page == "" {
					times = 1
				}
				for range times {
					if until, ok := t.Deadline(); page != "" && ok && time.Until(until) < trialTime {
						testkit.Elsewhere(t, "no time is left for it")
					}
					t.Run("", func(t *testing.T) { tryOnce(t, rec, note) })
				}
				if page != "" {
					fmt.Printf("chaos: %d of %d, %s after %s: %s: %s\n", i+1, len(chosen), how(note), time.Since(began).Round(time.Second), one.family, one.name)
				}
			})
		}
	})
	if n := rec.notRun(); n > 0 {
		t.Errorf("%d trials were not run", n)
	}
	if rec.silent > 0 || rec.away > 0 {
		t.Errorf("%d silent successes, the live database out of reach %d times", rec.silent, rec.away)
	}
	if page == "" {
		return
	}
	if err := os.WriteFile(page, []byte(chaosPage(rec, circumstances(began))), 0o644); err != nil {
		t.Fatal(err)
	}
}

func how(n *tally) string {
	if n.failed > 0 {
		return "NOT as wanted"
	}
	return "as wanted"
}

func tryOnce(t *testing.T, rec *record, note *tally) {
	c := &chaos{bench: &bench{t: t}, record: rec, tally: note}
	defer func() {
		c.settleWatch(t) // before the database is dropped
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.runs++
		if t.Failed() {
			note.failed++
		}
	}()
	note.run(c)
}

// TestWatch: the watch of the campaign sees a database that nobody can connect
// to, and wrong rows, and forgives a swap only a moment.
func TestWatch(t *testing.T) {
	b := newBench(t, "CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id")
	const sql = "SELECT count(*)::text FROM public.visits"
	none := &watch{database: b.database, sql: sql, rows: []string{backedUp, alive}, last: time.Now()}
	if none.look(); none.looks != 1 || none.away != 0 {
		t.Errorf("a database in reach: %+v", none.problems)
	}
	wrong := &watch{database: b.database, sql: sql, rows: []string{alive}, last: time.Now()}
	if wrong.look(); wrong.away != 1 {
		t.Error("wrong rows are not seen")
	}
	closed := func(change func(w *watch)) *watch {
		w := &watch{database: b.database + "_gone", sql: sql, rows: []string{backedUp}, last: time.Now()}
		change(w)
		w.look()
		return w
	}
	if closed(func(*watch) {}).away != 1 {
		t.Error("a database that is not there is not seen")
	}
	if w := closed(func(w *watch) { w.swapping.Store(true) }); w.away != 0 || w.moment == 0 {
		t.Errorf("in a swap's moment: %q", w.problems)
	}
	if closed(func(w *watch) { w.swapping.Store(true); w.last = w.last.Add(-2 * longestMoment) }).away != 1 {
		t.Error("a swap may take for ever")
	}
	if closed(func(w *watch) { w.down.Store(true) }).looks != 0 {
		t.Error("a server that is taken away is looked at")
	}
	running := startWatch(b.database, sql, backedUp)
	running.stop()
	if running.away != 0 || running.looks == 0 {
		t.Errorf("%d looks: %q", running.looks, running.problems)
	}
}

func TestVerdict(t *testing.T) {
	for _, tt := range []struct {
		r      result
		silent bool
		bad    bool
	}{
		{result{code: 0}, true, true},
		{result{code: 11, stderr: "error: it is damaged\n"}, false, false},
		{result{code: 11}, false, true},
		{result{code: 1, stderr: "error: it is damaged\n"}, false, true},
	} {
		if silent, problem := verdict(tt.r, 10, 11); silent != tt.silent || problem != "" != tt.bad {
			t.Errorf("%+v: silent %t, %q", tt.r, silent, problem)
		}
	}
}
