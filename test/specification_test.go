package test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
	"github.com/pgmedic/pgmedic/internal/store/s3test"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestSpecification: the .env of the specification, with nothing changed but the values that
// each clinic fills in, and pgmedic schedule install, give encrypted backups every night that
// are kept for 30 days with copies in S3, mail and Slack when one fails, and a report by mail
// every week. What was installed is run as cron and systemd run it.
func TestSpecification(t *testing.T) {
	installed := map[string]func(*clinicHost) map[string]func() result{"cron": (*clinicHost).withCron, "systemd": (*clinicHost).withSystemd}
	for _, name := range testkit.SomeOf(t, 1, []string{"cron", "systemd"}) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClinicHost(t)
			jobs := installed[name](c)
			id := c.nightlyBackup(jobs["nightly"])
			c.keptForThirtyDays(id, jobs["prune"])
			c.weeklyReport(jobs["report"])
			c.well(jobs["cleanup"])
			c.failure(jobs["nightly"])
		})
	}
}

const (
	clinicDatabase = "unified_health_dev"
	// What no message may have: secrets, and a row.
	clinicPassphrase = "canary passphrase of the clinic"
	clinicPassword   = "canary-Passw0rd"
	clinicWebhook    = "https://hooks.slack.com/services/T0/B0/canary"
	clinicRow        = "canary patient"
)

// clinicHost is a database with its .env, and all that this names.
type clinicHost struct {
	t      *testing.T
	server *scratch.Server
	s3     *s3test.Server
	bucket string
	mail   *postbox
	slack  *slackService
	// dir is where the .env is, home where the account's files are.
	dir, home string
}

func newClinicHost(t *testing.T) *clinicHost {
	t.Helper()
	c := &clinicHost{t: t, dir: t.TempDir(), home: t.TempDir()}
	c.server = scratchtest.New(t, scratch.Options{TCP: true, Password: password})
	role := "CREATE ROLE unified_health LOGIN PASSWORD '" + clinicPassword + "'"
	if err := executeAt(c.server.DSN("postgres"), role, "CREATE DATABASE "+clinicDatabase+" OWNER unified_health"); err != nil {
		t.Fatal(err)
	}
	rows := []string{
		"SET ROLE unified_health", "CREATE TABLE patients (id int PRIMARY KEY, name text)",
		"INSERT INTO patients SELECT i, '" + clinicRow + " ' || i FROM generate_series(1, 500) AS i",
		// Which the weekly report has to find.
		"CREATE TABLE visits AS SELECT i AS id, '" + clinicRow + "' AS of FROM generate_series(1, 5000) AS i",
	}
	if err := executeAt(c.server.DSN(clinicDatabase), rows...); err != nil {
		t.Fatal(err)
	}
	c.s3 = s3test.Start(t, s3test.Options{})
	c.bucket, c.mail, c.slack = c.s3.Bucket(), startPost(t), startSlack(t)
	text := string(readFile(t, "testdata/specification.env"))
	for name, value := range map[string]string{
		"DB_PORT": strconv.Itoa(c.server.Port()), "BACKUP_ENCRYPTION_KEY": clinicPassphrase,
		"CLOUD_STORAGE_ENABLED": "true", "AWS_S3_BUCKET": c.bucket,
		"NOTIFICATION_ENABLED": "true", "NOTIFICATION_EMAIL": "dba@clinic.example", "NOTIFICATION_WEBHOOK": clinicWebhook,
	} {
		line := regexp.MustCompile(`(?m)^` + name + `=.*$`)
		if len(line.FindAllString(text, -1)) != 1 {
			t.Fatalf("the specification has no single line of %s", name)
		}
		text = line.ReplaceAllString(text, name+"="+value)
	}
	// Where the throwaway parts are, and their credentials.
	text += strings.Join([]string{
		"DB_PASSWORD=" + clinicPassword, "SMTP_URL=smtp://127.0.0.1:" + c.mail.port + "?tls=off",
		"AWS_ACCESS_KEY_ID=" + c.s3.AccessKey, "AWS_SECRET_ACCESS_KEY=" + c.s3.SecretKey,
		"PGMEDIC_S3_ENDPOINT=" + c.s3.Endpoint, "PGMEDIC_S3_PATH_STYLE=true", "PGMEDIC_POSTGRES_DIRS=" + programs, "",
	}, "\n")
	put(t, filepath.Join(c.dir, ".env"), []byte(text))
	return c
}

// environ is what cron and systemd give to jobs, which is little. The proxy and the
// certificates are the machine's, as in /etc/environment: Slack is reached by them. root's
// state would be the machine's, and is not to be.
func (c *clinicHost) environ(more ...string) []string {
	return append([]string{
		"HOME=" + c.home, "LOGNAME=clinic", "SHELL=/bin/sh", "PATH=/usr/bin:/bin", "XDG_STATE_HOME=" + filepath.Join(c.home, "state"),
		"HTTPS_PROXY=" + c.slack.proxy.URL, "SSL_CERT_FILE=" + c.slack.caFile,
	}, more...)
}

// exec runs a program in a folder to its end.
func (c *clinicHost) exec(dir string, environ []string, program string, args ...string) result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = dir, environ, &stdout, &stderr, 10*time.Second
	err := cmd.Run()
	if cmd.ProcessState == nil {
		c.t.Fatal(err)
	}
	r := result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	c.discreet(r.stdout+r.stderr, "the output of "+program+" "+strings.Join(args, " "))
	return r
}

// ok runs pgmedic as a person does, in the folder of the .env.
func (c *clinicHost) ok(environ []string, args ...string) string {
	c.t.Helper()
	r := c.exec(c.dir, environ, binary, args...)
	if r.code != 0 {
		c.t.Fatalf("pgmedic %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// list are the backups of a store, by their manifests, sorted.
func (c *clinicHost) list(store string) (ids []string) {
	c.t.Helper()
	objects := c.s3.Objects(c.bucket)
	if store != "cloud" {
		var err error
		if objects, err = filepath.Glob(filepath.Join(store, "*", "*", "*", "manifest.json")); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, object := range objects {
		if path.Base(object) == "manifest.json" {
			ids = append(ids, path.Base(path.Dir(object)))
		}
	}
	slices.Sort(ids)
	return ids
}

// store is the folder that BACKUP_DIR names.
func (c *clinicHost) store() string {
	return filepath.Join(c.dir, "infrastructure", "backups", "database")
}

// discreet checks that a text has no secret and no row.
func (c *clinicHost) discreet(text, what string) {
	c.t.Helper()
	for _, secret := range []string{"canary", c.s3.SecretKey, password} {
		if strings.Contains(text, secret) {
			c.t.Errorf("%s has a secret, or a row:\n%s", what, text)
		}
	}
}

// well runs a job that must succeed, without a word of what is wrong.
func (c *clinicHost) well(run func() result) {
	c.t.Helper()
	if r := run(); r.code != 0 || r.stderr != "" {
		c.t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// schedulers are crontab(1) and systemctl(1) that keep what they are given below the home
// folder, because the machine's must stay as they are.
const (
	crontabScript = "#!/bin/sh\ncase $1 in\n-l) cat \"$HOME/tab\" 2>/dev/null || { echo 'no crontab for clinic' >&2; exit 1; } ;;\n-) cat >\"$HOME/tab\" ;;\nesac\n"
	systemctlFile = "#!/bin/sh\necho \"$*\" >>\"$HOME/systemctl.log\"\n"
)

// install runs schedule install, with the two programs before all others.
func (c *clinicHost) install(args ...string) {
	c.t.Helper()
	bin := filepath.Join(c.home, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		c.t.Fatal(err)
	}
	for name, text := range map[string]string{"crontab": crontabScript, "systemctl": systemctlFile} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil {
			c.t.Fatal(err)
		}
	}
	c.ok(c.environ("PATH="+bin+":/usr/bin:/bin"), append([]string{"schedule", "install", "--yes"}, args...)...)
}

// withCron installs the plan in a crontab, and returns what runs each line as cron does:
// without its five fields, by sh, in the home folder.
func (c *clinicHost) withCron() map[string]func() result {
	c.t.Helper()
	c.install("--cron")
	jobs, name := map[string]func() result{}, ""
	for line := range strings.Lines(string(readFile(c.t, filepath.Join(c.home, "tab")))) {
		line = strings.TrimSuffix(line, "\n")
		if comment, is := strings.CutPrefix(line, "# "); is {
			name, _, _ = strings.Cut(comment, ":")
			continue
		}
		fields := strings.SplitN(line, " ", 6)
		if len(fields) != 6 {
			c.t.Fatalf("no line of a crontab: %s", line)
		}
		if name == "nightly" && strings.Join(fields[:5], " ") != "0 2 * * *" || name == "report" && strings.Join(fields[:5], " ") != "0 6 * * 1" {
			c.t.Errorf("it runs at other times: %s", line)
		}
		command := strings.ReplaceAll(fields[5], `\%`, "%")
		jobs[name] = func() result {
			r := c.exec(c.home, c.environ(), "/bin/sh", "-c", command)
			if r.code == 0 && r.stdout != "" {
				c.t.Errorf("cron would mail what a job says that succeeded:\n%s", r.stdout)
			}
			return r
		}
	}
	return jobs
}

// withSystemd installs the plan as units of the account, and returns what runs the command
// of each service with its environment.
func (c *clinicHost) withSystemd() map[string]func() result {
	c.t.Helper()
	c.install("--systemd", "--user")
	files, err := filepath.Glob(filepath.Join(c.home, ".config", "systemd", "user", "pgmedic-*.service"))
	if err != nil {
		c.t.Fatal(err)
	}
	jobs := map[string]func() result{}
	for _, file := range files {
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "pgmedic-"), ".service")
		if log := string(readFile(c.t, filepath.Join(c.home, "systemctl.log"))); !strings.Contains(log, "--user enable pgmedic-"+name+".timer\n") {
			c.t.Errorf("the timer of %s is not enabled:\n%s", name, log)
		}
		var argv, environ []string
		for line := range strings.Lines(string(readFile(c.t, file))) {
			key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			// No path here has what systemd has quoted or escaped.
			if strings.ContainsAny(value, "\"'\\%$") {
				c.t.Fatalf("%s has to be read as systemd does: %s", file, line)
			}
			switch key {
			case "ExecStart":
				argv = strings.Fields(value)
			case "Environment":
				environ = append(environ, strings.Fields(value)...)
			}
		}
		jobs[name] = func() result { return c.exec(c.home, c.environ(environ...), argv[0], argv[1:]...) }
	}
	timer := string(readFile(c.t, filepath.Join(c.home, ".config", "systemd", "user", "pgmedic-nightly.timer")))
	if !strings.Contains(timer, "OnCalendar=*-*-* 02:00:00") {
		c.t.Errorf("it runs at other times:\n%s", timer)
	}
	return jobs
}

// nightlyBackup: a backup is encrypted, in the folder and in the bucket, and can be read in
// both with the passphrase alone.
func (c *clinicHost) nightlyBackup(nightly func() result) (id string) {
	c.t.Helper()
	c.well(nightly)
	got := c.list(c.store())
	if len(got) != 1 {
		c.t.Fatalf("the folder has %q", got)
	}
	if cloud := c.list("cloud"); !slices.Equal(cloud, got) {
		c.t.Fatalf("the bucket has %q, the folder %q", cloud, got)
	}
	folder := folderOf(c.t, c.store(), got[0])
	var manifest struct {
		Seal    struct{ Encryption string }
		Objects []struct{ Name string }
	}
	if err := json.Unmarshal(readFile(c.t, filepath.Join(folder, "manifest.json")), &manifest); err != nil || manifest.Seal.Encryption != "age" || len(manifest.Objects) == 0 {
		c.t.Errorf("%v: the manifest says %+v", err, manifest)
	}
	for _, store := range []string{c.store(), "cloud"} {
		c.ok(c.environ(), "verify", got[0], "--store", store)
		without := c.environ("BACKUP_ENCRYPTION_KEY=another", "NOTIFICATION_ENABLED=false")
		if r := c.exec(c.dir, without, binary, "verify", got[0], "--store", store); r.code == 0 {
			c.t.Errorf("with another passphrase the backup in %s is verified", store)
		}
	}
	c.nothingSent("a backup that succeeds")
	return got[0]
}

// keptForThirtyDays: of backups on each side of the limit, in the folder and in the bucket,
// those that are older are marked by one run and deleted by one a day later.
func (c *clinicHost) keptForThirtyDays(newest string, prune func() result) {
	c.t.Helper()
	keep, remove := []string{newest}, []string{}
	for _, days := range []int{1, 29, 31, 45} {
		id, err := olderEncrypted(c.store(), newest, 24*days, clinicPassphrase)
		if err != nil {
			c.t.Fatal(err)
		}
		if days <= 30 {
			keep = append(keep, id)
		} else {
			remove = append(remove, id)
		}
	}
	slices.Sort(keep)
	all := slices.Sorted(slices.Values(slices.Concat(keep, remove)))
	// By a policy that keeps them, as when they were new.
	c.ok(c.environ("BACKUP_RETENTION_DAYS=400"), "copy", "--all", "-q")
	stores := []string{c.store(), "cloud"}
	for _, store := range stores {
		if got := c.list(store); !slices.Equal(got, all) {
			c.t.Fatalf("%s has %q, want %q", store, got, all)
		}
	}
	c.well(prune)
	for _, store := range stores {
		if got := c.list(store); !slices.Equal(got, all) {
			c.t.Errorf("on the first day %s has %q", store, got)
		}
	}
	if n := c.aDayPasses(); n != 2*len(remove) {
		c.t.Errorf("%d are marked in the folder and in the bucket", n)
	}
	c.well(prune)
	for _, store := range stores {
		if got := c.list(store); !slices.Equal(got, keep) {
			c.t.Errorf("on the next day %s has %q, want %q", store, got, keep)
		}
	}
	for _, object := range c.s3.Objects(c.bucket) {
		if slices.ContainsFunc(remove, func(id string) bool { return strings.Contains(object, id) }) {
			c.t.Errorf("the bucket still has %s", object)
		}
	}
}

// aDayPasses has all marks be of a day earlier, by what they say and by the clocks of both
// stores, of which versitygw's is that of its files. It returns how many there are.
func (c *clinicHost) aDayPasses() (marks int) {
	c.t.Helper()
	before := time.Now().Add(-25 * time.Hour)
	at := regexp.MustCompile(`"at":\s*"[^"]*"`)
	for _, root := range []string{c.store(), filepath.Dir(c.dir)} {
		err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.Name() != "doomed.json" || root != c.store() && strings.HasPrefix(path, c.dir+"/") {
				return err
			}
			marks++
			data, err := os.ReadFile(path)
			if err == nil {
				// In place: an object's file has attributes that are the server's.
				err = os.WriteFile(path, at.ReplaceAll(data, []byte(`"at": "`+before.UTC().Format(time.RFC3339)+`"`)), 0o600)
			}
			if err != nil {
				return err
			}
			return os.Chtimes(path, before, before)
		})
		if err != nil {
			c.t.Fatal(err)
		}
	}
	return marks
}

// weeklyReport: it is saved, and arrives by mail each week, also when nothing is new.
func (c *clinicHost) weeklyReport(report func() result) {
	c.t.Helper()
	for _, week := range []string{"the first week", "the next one"} {
		c.well(report)
		var all []string
		for _, m := range c.mail.take(c.t) {
			c.discreet(m.raw+m.text, "a mail")
			all = append(all, m.subject, m.text)
		}
		told := strings.Join(all, "\n")
		for _, want := range []string{
			"0 of 1 database can be recovered to a proven backup; ", "problems are open", clinicDatabase + ": recoverable to ",
			clinicDatabase + " public.visits: table-without-primary-key: ",
		} {
			if !strings.Contains(told, want) {
				c.t.Errorf("%s: no mail says %q:\n%s", week, want, told)
			}
		}
	}
	c.slack.take()
	saved, err := filepath.Glob(filepath.Join(c.dir, "infrastructure", "monitoring", "database", "reports", "performance_report_*"))
	if err != nil || len(saved) == 0 {
		c.t.Errorf("no report is saved: %v", err)
	}
}

// failure: without the database the backup fails, and a mail and a message in Slack say of
// which database, and what to do.
func (c *clinicHost) failure(nightly func() result) {
	c.t.Helper()
	if err := c.server.Stop(context.WithoutCancel(c.t.Context())); err != nil {
		c.t.Fatal(err)
	}
	if r := nightly(); r.code != 12 || !strings.Contains(r.stdout+r.stderr, "error: ") {
		c.t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	mails, posts := c.sent()
	if len(mails) != 1 || len(posts) != 1 {
		c.t.Fatalf("%d mails, %d messages in Slack: %+v %q", len(mails), len(posts), mails, posts)
	}
	if !slices.Equal(mails[0].to, []string{"dba@clinic.example"}) || !strings.Contains(mails[0].subject, "CRITICAL") {
		c.t.Errorf("%+v", mails[0])
	}
	var post struct {
		Text        string
		Attachments []struct{ Text string }
	}
	if err := json.Unmarshal([]byte(posts[0]), &post); err != nil || len(post.Attachments) != 1 {
		c.t.Fatalf("%v: not a message as Slack takes it: %s", err, posts[0])
	}
	for what, text := range map[string]string{"the mail": mails[0].subject + "\n" + mails[0].text, "Slack": post.Text + "\n" + post.Attachments[0].Text} {
		for _, want := range []string{clinicDatabase, "The backup failed: ", "pgmedic check " + clinicDatabase, "You can still recover to "} {
			if !strings.Contains(text, want) {
				c.t.Errorf("%s lacks %q:\n%s", what, want, text)
			}
		}
	}
	c.discreet(mails[0].raw+mails[0].text, "the mail")
	c.discreet(posts[0], "the message in Slack")
	// What has not ended by the next night is said again then, not at each try.
	_ = nightly()
	c.nothingSent("the same failure at once")
}

func (c *clinicHost) nothingSent(after string) {
	c.t.Helper()
	if mails, posts := c.sent(); len(mails)+len(posts) > 0 {
		c.t.Errorf("%s sends %+v %q", after, mails, posts)
	}
}

// sent is what was sent since the last call, but for how full the disk of the store is, which
// is not the same on each machine.
func (c *clinicHost) sent() (mails []letter, posts []string) {
	const full = "the file system of the store"
	mails = slices.DeleteFunc(c.mail.take(c.t), func(l letter) bool { return strings.Contains(l.text, full) })
	posts = slices.DeleteFunc(c.slack.take(), func(post string) bool { return strings.Contains(post, full) })
	return mails, posts
}

// letter is an e-mail: as it came, and its subject and its text for reading.
type letter struct {
	to                 []string
	raw, subject, text string
}

// postbox is an SMTP server of this machine, which asks for no password.
type postbox struct {
	port string

	mu      sync.Mutex
	letters []letter
}

func startPost(t *testing.T) *postbox {
	t.Helper()
	p := &postbox{}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &mailing{box: p}, nil }))
	s.Domain = "localhost"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, p.port, _ = net.SplitHostPort(l.Addr().String())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	return p
}

// mailing is one session of an SMTP client.
type mailing struct {
	box *postbox
	one letter
}

// Mail implements smtp.Session.
func (m *mailing) Mail(string, *smtp.MailOptions) error { m.one = letter{}; return nil }

// Rcpt implements smtp.Session.
func (m *mailing) Rcpt(to string, _ *smtp.RcptOptions) error {
	m.one.to = append(m.one.to, to)
	return nil
}

// Data implements smtp.Session.
func (m *mailing) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m.one.raw = string(raw)
	m.box.mu.Lock()
	defer m.box.mu.Unlock()
	m.box.letters = append(m.box.letters, m.one)
	return nil
}

// Reset implements smtp.Session.
func (m *mailing) Reset() {}

// Logout implements smtp.Session.
func (m *mailing) Logout() error { return nil }

// take are the letters since the last call, read.
func (p *postbox) take(t *testing.T) []letter {
	t.Helper()
	p.mu.Lock()
	letters := p.letters
	p.letters = nil
	p.mu.Unlock()
	for i := range letters {
		m, err := mail.ReadMessage(strings.NewReader(letters[i].raw))
		if err != nil {
			t.Fatal(err)
		}
		if letters[i].subject, err = new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject")); err != nil {
			t.Fatal(err)
		}
		_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil {
			t.Fatal(err)
		}
		for parts := multipart.NewReader(m.Body, params["boundary"]); ; {
			part, err := parts.NextRawPart()
			if err != nil {
				break
			}
			body, err := io.ReadAll(quotedprintable.NewReader(part))
			if err != nil {
				t.Fatal(err)
			}
			letters[i].text += strings.ReplaceAll(string(body), "\r\n", "\n")
		}
	}
	return letters
}

// slackService is hooks.slack.com, behind a proxy that leads there and nowhere else.
type slackService struct {
	proxy *httptest.Server
	// caFile has the authority of its certificate.
	caFile string

	mu    sync.Mutex
	posts []string
}

func startSlack(t *testing.T) *slackService {
	t.Helper()
	s := &slackService{caFile: filepath.Join(t.TempDir(), "ca.pem")}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"hooks.slack.com"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		if req.Method != http.MethodPost || "https://"+req.Host+req.URL.Path != clinicWebhook {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.posts = append(s.posts, string(body))
	}))
	service.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	service.StartTLS()
	t.Cleanup(service.Close)
	s.proxy = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method != http.MethodConnect || req.Host != "hooks.slack.com:443" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		there, err := net.Dial("tcp", service.Listener.Addr().String())
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer there.Close()
		here, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer here.Close()
		_, _ = io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
		var both sync.WaitGroup
		both.Go(func() { _, _ = io.Copy(there, here); _ = there.Close() })
		both.Go(func() { _, _ = io.Copy(here, there); _ = here.Close() })
		both.Wait()
	}))
	t.Cleanup(s.proxy.Close)
	return s
}

// take are the messages since the last call.
func (s *slackService) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	posts := s.posts
	s.posts = nil
	return posts
}
