package test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic/internal/notify"
	"github.com/pgmedic/pgmedic/internal/schematest"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// receiver is a webhook and a dead man's switch.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	events []notify.Event
	pings  []string
	// hold keeps pings of a start waiting until it is closed; nil keeps none.
	hold chan struct{}
	// rooms has it take events about how full the disk of a store is, which is not the
	// same on each machine.
	rooms bool
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusOK}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if r.hold != nil && strings.HasSuffix(req.URL.Path, "/start") {
			select {
			case <-r.hold:
			case <-req.Context().Done(): // it is not waited for
				return
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if path, is := strings.CutPrefix(req.URL.Path, "/ping/canary"); is {
			r.pings = append(r.pings, strings.TrimPrefix(path, "/"))
			return
		}
		w.WriteHeader(r.status)
		var e notify.Event
		if r.status == http.StatusOK && json.Unmarshal(body, &e) == nil && (r.rooms || e.Name != "store.nearly_full" && e.Name != "store.has_room") {
			r.events = append(r.events, e)
			if e.Type == notify.EventType {
				schematest.Check(t, "event.schema.json", body)
			}
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// taken are the events since the last call, and what they are in one line.
func (r *receiver) taken() (events []notify.Event, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	events, r.events = r.events, nil
	var all []string
	for _, e := range events {
		all = append(all, e.Name+" "+string(e.State))
	}
	return events, strings.Join(all, ", ")
}

// pinged are the pings since the last call.
func (r *receiver) pinged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := strings.Join(r.pings, " ")
	r.pings = nil
	return line
}

// TestNotifications: what jobs report, to whom, and what becomes of it while the receiver
// is down.
func TestNotifications(t *testing.T) {
	b := newBench(t, patients("300")...)
	r := newReceiver(t)
	b.write("pgmedic.yaml", `
server: main
backup: {labels: {env: production}}
notifications:
  routes:
    - {match: {database: other}, to: []}
    - {to: [webhook]}
pings: {backup: "`+r.URL+`/ping/canary", verify: "`+r.URL+`/ping/canary"}
`)
	good := slices.Concat(b.env, []string{"NOTIFICATION_ENABLED=true", "NOTIFICATION_WEBHOOK=" + r.URL + "/canary"})
	bad := slices.Concat(good, []string{"DATABASE_URL=postgres://nobody:canary@127.0.0.1:1/" + b.database})
	b.env = good
	expect := func(want, pings string, code int, args ...string) []notify.Event {
		t.Helper()
		got := b.run(args...)
		events, line := r.taken()
		if got.code != code || line != want {
			t.Errorf("pgmedic %s: exit code %d, want %d; reported %q, want %q\n%s", strings.Join(args, " "), got.code, code, line, want, got.stderr)
		}
		if p := r.pinged(); p != pings {
			t.Errorf("pgmedic %s: pinged %q, want %q", strings.Join(args, " "), p, pings)
		}
		if strings.Contains(got.stdout+got.stderr, "canary") {
			t.Errorf("pgmedic %s prints a secret:\n%s", strings.Join(args, " "), got.stderr)
		}
		return events
	}
	expect("", "start ", 0, "backup")
	id := strings.TrimSpace(b.ok("list", "-q"))

	b.env = bad
	events := expect("backup.failed firing", "start fail", 12, "backup")
	if len(events) == 1 {
		e := events[0]
		if e.Exit != 12 || e.Target.Database != b.database || e.Target.Server != "main" || e.Target.Environment() != "production" ||
			e.Recovery == nil || !e.Recoverable || e.Backup != id || e.Command != "pgmedic check "+b.database || e.Hint == "" {
			t.Errorf("%+v, %+v", e, e.Recovery)
		}
		if data, err := json.Marshal(e); err != nil || strings.Contains(string(data), "canary") {
			t.Errorf("%v: there is a secret in %s", err, data)
		}
	}
	expect("", "start fail", 12, "backup") // told already
	b.env = good
	events = expect("backup.succeeded resolved", "start ", 0, "backup")
	if len(events) == 1 && events[0].Count != 2 {
		t.Errorf("%+v", events[0])
	}

	// While the receiver is down nothing is lost, and nothing is silent.
	b.env = bad
	expect("backup.failed firing", "start fail", 12, "backup")
	r.answer(http.StatusServiceUnavailable)
	b.env = good
	expect("", "start ", 15, "backup")
	r.answer(http.StatusOK)
	expect("backup.succeeded resolved", "start ", 0, "verify")
	r.answer(http.StatusNotFound)
	b.env = bad
	expect("", "start fail", 12, "backup")
	r.answer(http.StatusOK)

	// A route can lead to no one, and all can be switched off; pings are sent all the same.
	b.env = good
	expect("", "start fail", 12, "backup", "other", "--port", "1", "--host", "127.0.0.1")
	b.env = slices.Concat(bad, []string{"NOTIFICATION_ENABLED=false"})
	expect("", "start fail", 12, "backup")

	// Damage is critical, and an older backup is what is left.
	b.env = good
	newest := strings.Fields(b.ok("list", "-q"))[0]
	b.spoil(newest)
	events = expect("verify.failed firing", "start fail", 11, "verify", newest)
	if len(events) == 1 && (events[0].Exit != 11 || events[0].Backup == newest || !events[0].Recoverable || len(events[0].Evidence) != 1) {
		t.Errorf("%+v, %+v", events[0], events[0].Recovery)
	}
	expect("copy.failed firing", "", 2, "copy", "--all", "--to", "sftp://127.0.0.1:1/x")
}

// write writes a file in the working folder.
func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// spoil changes a byte of the largest object of a backup.
func (b *bench) spoil(id string) {
	b.t.Helper()
	largest, size := "", int64(0)
	err := filepath.WalkDir(b.store, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(path, id) {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size && !strings.HasSuffix(path, ".json") {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil || largest == "" {
		b.t.Fatalf("no object of %s: %v", id, err)
	}
	data, err := os.ReadFile(largest)
	if err != nil {
		b.t.Fatal(err)
	}
	data[len(data)/2] ^= 0x10
	if err := os.WriteFile(largest, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// TestReportNotify: findings are sent when they are new, worse or gone, and not when
// nothing changed; what was not read is not gone.
func TestReportNotify(t *testing.T) {
	b := newBench(t, "CREATE TABLE without_a_key AS SELECT i FROM generate_series(1, 5000) AS i", "ANALYZE")
	r := newReceiver(t)
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL)
	of := func(args ...string) (firing, resolved int) {
		t.Helper()
		got := b.run(append([]string{"report", "--notify", "--section", "tables"}, args...)...)
		if got.code != 0 {
			t.Fatalf("exit code %d\n%s", got.code, got.stderr)
		}
		events, _ := r.taken()
		for _, e := range events {
			if e.Object != "public.without_a_key" || !strings.HasPrefix(e.Summary, "table-without-primary-key: ") || e.Target.Database != b.database {
				continue
			}
			if e.State == notify.StateResolved {
				resolved++
			} else {
				firing++
			}
		}
		return firing, resolved
	}
	for _, step := range []struct {
		name             string
		sql              string
		args             []string
		firing, resolved int
	}{
		{"new", "", nil, 1, 0},
		{"as before", "", nil, 0, 0},
		{"mended, and not read", "ALTER TABLE without_a_key ADD PRIMARY KEY (i)", []string{"--section", "locks"}, 0, 0},
	} {
		if step.sql != "" {
			mustExec(t, b.database, step.sql)
		}
		args := step.args
		if args != nil { // another section instead
			got := b.run("report", "--notify", "--section", "locks")
			if _, line := r.taken(); got.code != 0 || strings.Contains(line, "resolved") {
				t.Errorf("%s: exit code %d, reported %s", step.name, got.code, line)
			}
			continue
		}
		if firing, resolved := of(); firing != step.firing || resolved != step.resolved {
			t.Errorf("%s: %d firing, %d resolved", step.name, firing, resolved)
		}
	}
	if firing, resolved := of(); firing != 0 || resolved != 1 {
		t.Errorf("gone: %d firing, %d resolved", firing, resolved)
	}
	b.env = append(b.env, "NOTIFICATION_WEBHOOK=")
	if got := b.run("report", "--watch", "30s", "--notify"); got.code != 2 || !strings.Contains(got.stderr, "there is no channel to send findings to") {
		t.Errorf("a watch: exit code %d: %s", got.code, got.stderr)
	}
	if got := b.run("report", "--notify"); got.code != 2 || !strings.Contains(got.stderr, "there is no channel to send findings to") {
		t.Errorf("without a channel: exit code %d\n%s", got.code, got.stderr)
	}
}

// TestNotifyTest: the test of channels says what became of each message, and check whether
// they can be used.
func TestNotifyTest(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t)
	if got := b.run("notify", "test"); got.code != 2 || !strings.Contains(got.stderr, "there is no channel to test") {
		t.Errorf("without a channel: %d\n%s", got.code, got.stderr)
	}
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL+"/canary")
	if out := b.ok("notify", "test", "--event", "drill-failed"); !strings.HasPrefix(out, "sent   webhook (webhook): drill.failed in ") {
		t.Errorf("%s", out)
	}
	if events, line := r.taken(); line != "drill.failed firing" || !events[0].Test {
		t.Errorf("%s", line)
	}
	r.answer(http.StatusGone)
	got := b.run("notify", "test", "--json")
	if got.code != 15 || !strings.Contains(got.stdout, `"outcome": "refused"`) || strings.Contains(got.stdout+got.stderr, "canary") {
		t.Errorf("%d\n%s%s", got.code, got.stdout, got.stderr)
	}
	if got := b.run("check"); !strings.Contains(got.stdout, "channel webhook is configured and its host is known; nothing was sent") {
		t.Errorf("%s%s", got.stdout, got.stderr)
	}
	b.env = append(b.env, "NOTIFICATION_WEBHOOK=env:NO_SUCH_NAME")
	b.ok("config") // which reports nothing
	if got := b.run("backup"); got.code != 15 || !strings.Contains(got.stderr, "the backup is done, and not everything was reported: notifications.webhook: ") {
		t.Errorf("%d\n%s", got.code, got.stderr)
	}
	b.env = append(b.env, "NOTIFICATION_WEBHOOK=https://clinic.webhook.office.com/canary")
	for _, command := range []string{"notify test", "check"} {
		got = b.run(strings.Fields(command)...)
		if got.code != 2 || !strings.Contains(got.stdout+got.stderr, "Microsoft ended these") || strings.Contains(got.stdout+got.stderr, "canary") {
			t.Errorf("%s: %d\n%s", command, got.code, got.stderr)
		}
	}
}

// TestWrongNotifications: no setting of notifications stops a backup or its pings. The
// channels that can be used are, and what can't be is exit code 15.
func TestWrongNotifications(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t)
	secret := filepath.Join(b.dir, "secret")
	if err := os.WriteFile(secret, []byte("canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.write("pgmedic.yaml", `
notifications:
  on_success: always
  channels: [{name: own, type: webhook, url: "`+r.URL+`/own"}]
  routes:
    - {match: {event: "backup.*"}, to: [own, webhook]}
    - {to: [email]}
pings: {backup: "`+r.URL+`/ping/canary"}
`)
	env := b.env
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"a connector of Office":     {[]string{"NOTIFICATION_WEBHOOK=https://x.webhook.office.com/canary"}, "Microsoft ended these"},
		"no address":                {[]string{"NOTIFICATION_EMAIL=dba at clinic"}, "channel email has an address that is not one"},
		"a secret that is no URL":   {[]string{"NOTIFICATION_WEBHOOK=file:" + secret}, "not the URL of a webhook"},
		"a link without scheme":     {[]string{"PGMEDIC_NOTIFY_LINK=runbook.example"}, "notifications.link is not an address of the web"},
		"a route to no channel":     {nil, "route 1 leads to channel webhook, which does not exist"},
		"link of nothing that runs": {[]string{"NOTIFICATION_ENABLED=false", "PGMEDIC_NOTIFY_LINK=runbook.example"}, ""},
	} {
		b.env = slices.Concat(env, tt.env)
		got := b.run("backup")
		code, line := 15, "backup.succeeded info"
		if tt.want == "" {
			code, line = 0, ""
		}
		if _, events := r.taken(); got.code != code || events != line || !strings.Contains(got.stderr, tt.want) || strings.Contains(got.stderr, "canary") {
			t.Errorf("%s: exit code %d, reported %q\n%s", name, got.code, events, got.stderr)
		}
		if pings := r.pinged(); pings != "start " {
			t.Errorf("%s: pinged %q", name, pings)
		}
	}
}

// TestResolvedIsOver: a success ends nothing but what it was about.
func TestResolvedIsOver(t *testing.T) {
	b := newBench(t, patients("300")...)
	r := newReceiver(t)
	good := slices.Concat(b.env, []string{"NOTIFICATION_WEBHOOK=" + r.URL, "PGMEDIC_SERVER=main"})
	b.env = good
	expect := func(want string, code int, args ...string) []notify.Event {
		t.Helper()
		got := b.run(args...)
		events, line := r.taken()
		if got.code != code || line != want {
			t.Errorf("pgmedic %s: exit code %d, want %d; reported %q, want %q\n%s", strings.Join(args, " "), got.code, code, line, want, got.stderr)
		}
		return events
	}
	expect("", 0, "backup")
	damaged := strings.TrimSpace(b.ok("list", "-q"))
	b.spoil(damaged)
	expect("verify.failed firing", 11, "verify", damaged)
	b.env = slices.Concat(good, []string{"DATABASE_URL=postgres://nobody@127.0.0.1:1/" + b.database})
	expect("backup.failed firing", 12, "backup")
	expect("copy.failed firing", 2, "copy", "--all", "--to", "sftp://127.0.0.1:1/x")
	b.env = good
	expect("", 0, "backup", "--table", "patients")
	expect("backup.succeeded resolved", 0, "backup")
	expect("", 0, "copy", "latest", "--to", filepath.Join(b.dir, "elsewhere"))
	intact := strings.Fields(b.ok("list", "-q"))[0]
	expect("", 0, "verify", intact)
	b.spoil(damaged) // the same byte again, which mends it
	expect("", 0, "verify", damaged, "--sample", "50%")
	if events := expect("verify.succeeded resolved", 0, "verify", damaged); len(events) == 1 && events[0].Summary != "backup "+damaged+" is intact" {
		t.Errorf("%+v", events[0])
	}
}

// TestDigest: the first job after the time of a digest sends one, which says of each
// database what it can be recovered to.
func TestDigest(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t)
	weekday := strconv.Itoa(int(time.Now().AddDate(0, 0, 3).Weekday())) // so that none becomes due meanwhile
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL, "PGMEDIC_NOTIFY_DIGEST=0 8 * * "+weekday, "PGMEDIC_SERVER=main")
	b.ok("backup")
	if _, line := r.taken(); line != "" {
		t.Errorf("reported %s when digests began", line)
	}
	ledgers, err := filepath.Glob(filepath.Join(b.tmp, ".local", "state", "pgmedic", "notify", "*", "reported.json"))
	if err != nil || len(ledgers) != 1 {
		t.Fatalf("%v: %v", err, ledgers)
	}
	if err := os.WriteFile(ledgers[0], []byte(`{"format":1,"alarms":{},"digests":{"main":"2026-01-01T00:00:00Z"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b.ok("verify")
	events, line := r.taken()
	if line != "digest info" {
		t.Fatalf("reported %s", line)
	}
	e := events[0]
	if e.Summary != "0 of 1 database can be recovered to a proven backup; no problem is open" || e.Severity != "warn" ||
		len(e.Evidence) != 2 || e.Evidence[0].Name != b.database || !strings.HasSuffix(e.Evidence[0].Value, " UTC, verified") {
		t.Errorf("%+v", e)
	}
	// A copy of the audit log's head, which names a record that is there.
	var shown struct {
		Records []struct {
			Seq       int
			Log, Hash string
		}
	}
	if err := json.Unmarshal([]byte(b.ok("audit", "show", "--json")), &shown); err != nil {
		t.Fatal(err)
	}
	heads := 0
	for _, r := range shown.Records {
		if strings.HasPrefix(e.Evidence[1].Value, "record "+strconv.Itoa(r.Seq)+" of log ") && strings.Contains(e.Evidence[1].Value, " has the hash "+r.Hash+", at 20") {
			heads++
		}
	}
	if e.Evidence[1].Name != notify.DigestAudit || heads != 1 {
		t.Errorf("%+v is %d of %+v", e.Evidence[1], heads, shown.Records)
	}
	b.ok("verify")
	if _, line := r.taken(); line != "" {
		t.Errorf("reported %s twice", line)
	}
	// Where there are no names, it is what is left; where there is no log there is none.
	for setting, want := range map[string]int{"PGMEDIC_NOTIFY_NAMES=none": 1, "PGMEDIC_AUDIT_FILE=off": 1, "PGMEDIC_AUDIT_FILE=" + filepath.Join(b.dir, "none.jsonl"): 1} {
		before := b.env
		b.env = append(slices.Clone(b.env), setting)
		b.run("report", "--quiet", "--notify", "--digest", "--section", "locks")
		b.env = before
		events, line := r.taken()
		i := slices.IndexFunc(events, func(e notify.Event) bool { return e.Name == notify.DigestName })
		if i < 0 || len(events[i].Evidence) != want || strings.Contains(setting, "NAMES") != (events[i].Evidence[0].Name == notify.DigestAudit) {
			t.Errorf("%s: %s %+v", setting, line, events)
		}
	}
	b.env = append(b.env, "PGMEDIC_NOTIFY_DIGEST=weekly, please")
	if got := b.run("verify"); got.code != 2 || !strings.Contains(got.stderr, "PGMEDIC_NOTIFY_DIGEST is not a time of a schedule") {
		t.Errorf("%d\n%s", got.code, got.stderr)
	}
}

// TestNotifyInterrupted: a backup that is told to stop, as systemd does it, is reported
// before it ends. Nor did it wait for its first ping.
func TestNotifyInterrupted(t *testing.T) {
	b := newBench(t)
	r := newReceiver(t)
	r.hold = make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0") // a server that says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	reached := make(chan net.Conn, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				close(reached)
				return
			}
			reached <- conn
		}
	}()
	b.env = append(b.env, "NOTIFICATION_WEBHOOK="+r.URL, "PGMEDIC_PING_BACKUP="+r.URL+"/ping/canary", "DATABASE_URL=postgres://x@"+l.Addr().String()+"/clinic", "DB_CONNECT_TIMEOUT=60")
	c := b.start("backup")
	conn := <-reached
	defer conn.Close()
	close(r.hold)
	testkit.Eventually(t, time.Minute, "the ping of the start is in", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.pings) > 0
	})
	c.signal(syscall.SIGTERM)
	if got := c.wait(time.Minute); got.code != 130 {
		t.Errorf("exit code %d\n%s", got.code, got.stderr)
	}
	events, line := r.taken()
	if pings := r.pinged(); line != "backup.failed firing" || events[0].Exit != 130 || pings != "start fail" {
		t.Errorf("reported %s, pinged %s: %+v", line, pings, events)
	}
}
