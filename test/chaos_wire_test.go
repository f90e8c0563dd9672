package test

import (
	"context"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2"

	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/testkit"
	"github.com/pgmedic/pgmedic/test/fixture"
)

// Toxics of a wire.
const (
	narrow = `{"name": "narrow", "type": "bandwidth", "stream": "%", "attributes": {"rate": 4000}}`
	slower = `{"name": "slower", "type": "bandwidth", "stream": "%", "attributes": {"rate": 1000}}`
	remote = `{"name": "remote", "type": "latency", "stream": "%", "attributes": {"latency": 10, "jitter": 5}}`
	resets = `{"name": "resets", "type": "reset_peer", "stream": "%", "attributes": {"timeout": 0}}`
)

// wire is a way to a server that faults can be put on. It is narrow, so that
// there is a midway.
type wire struct {
	t     *testing.T
	proxy *toxiproxy.Proxy
	meter *fixture.Proxy
	port  string
}

func newWire(t *testing.T, address string) *wire {
	t.Helper()
	w := &wire{t: t}
	meter, port := fixture.NewProxy(t, address)
	w.meter = meter
	w.proxy, w.port = fixture.Toxiproxy(t, net.JoinHostPort("127.0.0.1", port))
	w.poison(narrow)
	return w
}

// poison puts a toxic on both directions.
func (w *wire) poison(toxic string) {
	w.t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		fixture.Poison(w.t, w.proxy, strings.Replace(strings.Replace(toxic, `"%"`, `"`+stream+`"`, 1), `{"name": "`, `{"name": "`+stream+"-", 1))
	}
}

// after waits until so many more bytes have passed, or the program has ended.
func (w *wire) after(bytes int64, c *child) {
	w.t.Helper()
	from := w.meter.Passed()
	ended := false
	testkit.Eventually(w.t, time.Minute, "the program is midway", func() bool {
		select {
		case <-c.done:
			ended = true
		default:
		}
		return ended || w.meter.Passed() > from+bytes
	})
	if ended {
		w.t.Fatalf("pgmedic %s ended before it was midway: %s", strings.Join(c.args, " "), c.stderr)
	}
}

// heal has the wire be as new.
func (w *wire) heal() {
	w.t.Helper()
	w.proxy.Toxics.ResetToxics(context.Background())
	if err := w.proxy.Start(); err != nil && !strings.Contains(err.Error(), "already started") {
		w.t.Fatal(err)
	}
}

// fault is what befalls a wire.
type fault struct {
	name, done, want string
	// befalls comes midway; nil means that the fault is there from the beginning.
	begins  func(w *wire)
	befalls func(w *wire)
	// may is true where the program may overcome it, must where it has to.
	may, must bool
}

func faults() []fault {
	const failed = "exit code 12, nothing half-done listed or left after the next run, which works"
	return []fault{
		{name: "cut", done: "closed midway, and refused from then on", want: failed, befalls: func(w *wire) { w.proxy.Stop() }},
		{name: "reset", done: "every packet is answered by a reset, from midway on", want: failed,
			befalls: func(w *wire) { w.poison(resets) }},
		{name: "cut and mended", done: "closed midway, and taken again at once", want: "exit code 12, or 0 with the right rows", may: true,
			befalls: func(w *wire) {
				w.proxy.Stop()
				if err := w.proxy.Start(); err != nil {
					w.t.Error(err)
				}
			}},
		{name: "slowed", done: "1 MB/s, 5 to 15 ms later, from the beginning", want: "exit code 0 with the right rows", must: true,
			begins: func(w *wire) { w.heal(); w.poison(slower); w.poison(remote) }},
	}
}

// clinic is some 5 MB, whose rows are recognised where they must not be.
func clinic() []string {
	return []string{
		"CREATE TABLE public.patients (id int PRIMARY KEY, name text, notes text)",
		"INSERT INTO public.patients SELECT i, '" + planted + "', md5(random()::text) || md5(random()::text) || md5(random()::text) FROM generate_series(1, 40000) AS i",
		"CREATE TABLE public.visits AS SELECT generate_series(1, 500) AS id",
	}
}

// job is what the program does when something befalls it.
type job struct {
	name string
	args func(c *chaos) []string
	// midway is after how many bytes; zero means 1.5 MB.
	midway int64
}

func serverJobs() []job {
	return []job{
		{name: "backup", args: func(*chaos) []string { return []string{"backup"} }},
		{name: "backup --method plain", args: func(*chaos) []string { return []string{"backup", "--method", "plain"} }},
		{name: "restore --into", args: func(c *chaos) []string { return []string{"restore", "latest", "--into", c.database + "_copy"} }},
		{name: "restore --swap", args: func(*chaos) []string { return []string{"restore", "latest", "--swap", "--yes"} }},
		{name: "restore --swap, in the safety backup", midway: 7 << 20, args: func(*chaos) []string { return []string{"restore", "latest", "--swap", "--yes"} }},
		{name: "drill --on-server", args: func(*chaos) []string { return []string{"drill", "latest", "--on-server"} }},
		{name: "restore --table", args: func(*chaos) []string { return []string{"restore", "latest", "--table", "public.patients"} }},
	}
}

// rows are those that the live database may have meanwhile.
func (j job) rows() []string {
	if strings.HasPrefix(j.name, "restore --swap") {
		return []string{alive, backedUp}
	}
	return []string{alive}
}

func label(j job, f fault) string {
	command, more, _ := strings.Cut(j.name, ",")
	if more != "" {
		more = "," + more
	}
	return "`" + command + "`" + more + ": " + f.name
}

// serverTrials put toxiproxy between the program, its children included, and
// PostgreSQL.
func serverTrials() (all []trial) {
	for _, j := range serverJobs() {
		for _, f := range faults() {
			if f.must && j.midway > 0 {
				continue // it is slow as a whole
			}
			all = append(all, trial{
				family: byServer, name: label(j, f), done: f.done, want: f.want,
				quick: j.name == "restore --swap" && f.name == "cut",
				run: func(c *chaos) {
					before := c.prepare()
					w := newWire(c.t, serverAddress())
					c.live(j.rows()...).swapping.Store(f.may || f.must)
					r := c.over(w, j, f, func(env []string) []string { return append(env, "DATABASE_URL="+throughPort(c.t, c.database, w.port)) })
					c.judge(j, f, r, before)
				},
			})
		}
	}
	return all
}

// restartTrials kill a process of the server, which then ends all sessions and
// recovers.
func restartTrials() (all []trial) {
	f := fault{name: "crash"}
	for _, j := range serverJobs() {
		all = append(all, trial{
			family: byRestart, name: label(j, f), alone: true,
			done: "one of the server's processes is killed midway",
			want: "exit code 12; nothing half-done listed; the next run works",
			run: func(c *chaos) {
				before := c.prepare()
				w := newWire(c.t, serverAddress())
				watch := c.live(j.rows()...)
				f := f
				f.befalls = func(*wire) {
					watch.down.Store(true)
					scratchtest.Crash(c.t, server)
				}
				r := c.over(w, j, f, func(env []string) []string { return append(env, "DATABASE_URL="+throughPort(c.t, c.database, w.port)) })
				scratchtest.Recovered(c.t, server)
				watch.down.Store(false)
				c.judge(j, f, r, before)
			},
		})
	}
	return all
}

func serverAddress() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port())) }

// throughPort is the URL of a database through a proxy.
func throughPort(t *testing.T, database, port string) string {
	t.Helper()
	u, err := url.Parse(server.URL(database))
	if err != nil {
		t.Fatal(err)
	}
	u.Host = net.JoinHostPort("127.0.0.1", port)
	return u.String()
}

// state is what the bench is like before something befalls the program.
type state struct {
	backups []string
	// backedUp is the sum of the rows in the latest backup, live that of the live
	// database.
	backedUp, live string
}

// prepare makes a clinic with a backup, and ten visits since.
func (c *chaos) prepare(env ...string) state {
	c.bench = newBench(c.t, clinic()...)
	c.env = append(append(c.env, "PGMEDIC_SERVER=main", "PGMEDIC_JOBS=2", "BACKUP_COMPRESSION=none"), env...)
	c.backup()
	s := state{backups: c.listed(), backedUp: c.sum(c.database)}
	mustExec(c.t, c.database, "INSERT INTO public.visits SELECT generate_series(1, 10)")
	s.live = c.sum(c.database)
	return s
}

func (c *chaos) listed() []string {
	c.t.Helper()
	return strings.Fields(c.ok("list", "-q"))
}

// over runs a job over a wire.
func (c *chaos) over(w *wire, j job, f fault, through func(env []string) []string) result {
	c.t.Helper()
	if f.begins != nil {
		f.begins(w)
	}
	direct := c.env
	c.env = through(slices.Clone(direct))
	running := c.start(j.args(c)...)
	c.env = direct
	if f.befalls != nil {
		midway := j.midway
		if midway == 0 {
			midway = 3 << 19
		}
		w.after(midway, running)
		f.befalls(w)
	}
	r := running.wait(3 * time.Minute)
	w.heal()
	return r
}

// judge looks at what a run came to, and has the next ones mend it.
func (c *chaos) judge(j job, f fault, r result, before state) {
	c.t.Helper()
	switch {
	case r.code != 0 && f.must:
		c.t.Errorf("exit code %d\n%s", r.code, r.stderr)
	case r.code == 0 && (f.may || f.must):
		c.right(j, before)
		return
	default:
		c.refused(r, 12)
	}
	if now := c.listed(); !slices.Equal(now, before.backups) && !strings.Contains(j.name, "safety") {
		c.t.Errorf("backups are %q instead of %q", now, before.backups)
	}
	if now := c.sum(c.database); now != before.live {
		c.t.Error("the live database has other rows")
	}
	args := j.args(c)
	if strings.HasPrefix(j.name, "restore --swap") {
		c.swapMends(before)
		return
	}
	// The server may take a moment to let the locks of the dead go.
	testkit.Eventually(c.t, time.Minute, "the next run has the lock", func() bool {
		r = c.run(args...)
		return r.code != 14
	})
	if r.code != 0 {
		c.t.Fatalf("the next run: exit code %d\n%s", r.code, r.stderr)
	}
	c.right(j, before)
}

// swapMends clears away what a swap left, and swaps.
func (c *chaos) swapMends(before state) {
	c.t.Helper()
	c.watch.swapping.Store(true)
	var r result
	testkit.Eventually(c.t, time.Minute, "restore --resume has the lock", func() bool {
		r = c.run("restore", "--resume", "--yes")
		return r.code != 14
	})
	if r.code != 0 && r.code != 10 {
		c.t.Fatalf("restore --resume: exit code %d\n%s", r.code, r.stderr)
	}
	if c.visits() == alive {
		c.ok("restore", before.backups[0], "--swap", "--yes")
	}
	if now := c.sum(c.database); now != before.backedUp {
		c.silent("the restored database has other rows")
	}
	c.ok("rollback", c.database, "--yes")
	if now := c.sum(c.database); now != before.live {
		c.silent("the database rolled back to has other rows")
	}
	if left := databasesOf(c.t, c.database); len(left) != 2 {
		c.t.Errorf("databases are %q", left)
	}
}

// right looks whether a job that said that it was done has done it.
func (c *chaos) right(j job, before state) {
	c.t.Helper()
	want := before.backedUp
	var found string
	switch name, _, _ := strings.Cut(j.name, ","); name {
	case "backup", "backup --method plain":
		c.ok("verify", "--all")
		if len(c.listed()) != len(before.backups)+1 {
			c.silent("the new backup is not listed")
		}
		want = before.live
		c.ok("restore", "latest", "--into", c.database+"_copy", "-q")
		found = c.sum(c.database + "_copy")
	case "restore --into":
		found = c.sum(c.database + "_copy")
	case "restore --swap":
		found = c.sum(c.database)
	case "restore --table":
		schema := query(c.t, c.database, "SELECT nspname::text FROM pg_namespace WHERE starts_with(nspname::text, 'pgmedic_rescue_')")
		if len(schema) != 1 {
			c.silent("schemas are %q", schema)
			return
		}
		found = query(c.t, c.database, "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM "+schema[0]+".patients AS p")[0]
		want = strings.TrimSuffix(want, backedUp)
	default:
		if left := query(c.t, "postgres", "SELECT datname::text FROM pg_database WHERE starts_with(datname::text, 'pgmedic_drill_') AND shobj_description(oid, 'pg_database') LIKE '%'||$1||'%'", c.database); len(left) > 0 {
			c.t.Errorf("left behind: %q", left)
		}
		c.saw("exit code 0")
		return
	}
	if found != want {
		c.silent("pgmedic %s: other rows", j.name)
		return
	}
	c.saw("right rows")
}
