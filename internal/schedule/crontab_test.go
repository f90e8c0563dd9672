package schedule_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/schedule"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// noon is a moment from which on the tests look ahead.
func noon() time.Time { return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC) }

func host(config string, in *time.Location) schedule.Host {
	return schedule.Host{Program: "/usr/local/bin/pgmedic", Config: config, Name: "db1", Zone: in}
}

// jobLines are the lines of a crontab that start jobs.
func jobLines(block string) (lines []string) {
	for _, l := range strings.Split(strings.TrimSpace(block), "\n") {
		if !strings.HasPrefix(l, "#") && !strings.HasPrefix(l, "MAILTO=") {
			lines = append(lines, l)
		}
	}
	return lines
}

// split returns the five fields of a line, and its command.
func split(line string) (fields, command string) {
	parts := strings.SplitN(line, " ", 6)
	return strings.Join(parts[:5], " "), parts[5]
}

// TestCronRunsWhatIsMeant has a real shell run the commands, with what is hostile to it in
// every place.
func TestCronRunsWhatIsMeant(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `it's 100% $HOME "x" \ `+"`id`;")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "pgmedic")
	log := filepath.Join(dir, "argv")
	script := "#!/bin/sh\nfor a in \"$0\" \"$@\"; do printf '%s\\0' \"$a\"; done > \"$(dirname \"$0\")/argv\"\necho printed\necho complained >&2\nexit $(cat \"$(dirname \"$0\")/code\")\n"
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	h := schedule.Host{Program: program, Config: filepath.Join(dir, "pgmedic.yaml"), EnvFile: filepath.Join(dir, ".env"), Name: "db1", Zone: time.UTC}
	e := entry(t, schedule.JobBackup, func(e *schedule.Entry) {
		e.Databases = []string{"--yes", "it's", `a"b$(id)%s`, "ünï"}
		e.Args = args(`label:q=100% $HOME 'x'|r=\`)
	})
	block, _, err := schedule.Crontab([]schedule.Entry{e}, h, schedule.CrontabOptions{Now: noon()})
	if err != nil {
		t.Fatal(err)
	}
	lines := jobLines(block)
	if len(lines) != 1 {
		t.Fatalf("%d lines: %s", len(lines), block)
	}
	_, command := split(lines[0])
	// cron takes the backslash off, and makes a line break of any other percent sign.
	if strings.Contains(strings.ReplaceAll(command, `\%`, ""), "%") {
		t.Errorf("a percent sign is not escaped: %s", command)
	}
	command = strings.ReplaceAll(command, `\%`, "%")
	for code, want := range map[int]string{0: "", 15: "printed\ncomplained\n"} {
		if err := os.WriteFile(filepath.Join(dir, "code"), fmt.Append(nil, code), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("/bin/sh", "-c", command).CombinedOutput()
		var exit *exec.ExitError
		if got := 0; errors.As(err, &exit) && exit.ExitCode() != code || err == nil && code != got {
			t.Errorf("exit code %v instead of %d", err, code)
		}
		if string(out) != want {
			t.Errorf("exit code %d prints %q, want %q", code, out, want)
		}
		argv, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		wanted := append([]string{program, "--config=" + h.Config, "--env-file=" + h.EnvFile}, e.Command()...)
		if got := strings.Split(strings.TrimSuffix(string(argv), "\x00"), "\x00"); !slices.Equal(got, wanted) {
			t.Errorf("got %q\nwant %q", got, wanted)
		}
	}
}

// TestCronEndsAJob has a job run into its limit, and the output says so. The options of
// timeout are those that busybox knows, too.
func TestCronEndsAJob(t *testing.T) {
	if _, err := exec.LookPath("timeout"); err != nil {
		testkit.Missing(t, "no program timeout, which coreutils and busybox have")
	}
	program := filepath.Join(t.TempDir(), "pgmedic")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nwhile :; do :; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	e := entry(t, schedule.JobVerify, func(e *schedule.Entry) { e.MaxDuration = time.Second })
	block, _, err := schedule.Crontab([]schedule.Entry{e}, schedule.Host{Program: program, Config: "/x.yaml", Zone: time.UTC}, schedule.CrontabOptions{Now: noon()})
	if err != nil {
		t.Fatal(err)
	}
	_, command := split(jobLines(block)[0])
	if !strings.Contains(command, "$(timeout -k 60 1 ") {
		t.Errorf("the command is %s", command)
	}
	out, err := exec.Command("/bin/sh", "-c", strings.ReplaceAll(command, `\%`, "%")).CombinedOutput()
	var exit *exec.ExitError
	// busybox's has the code of the job: 128 and the number of SIGTERM.
	if !errors.As(err, &exit) || exit.ExitCode() != 124 && exit.ExitCode() != 143 || !strings.Contains(string(out), "max_duration of 1 s") {
		t.Errorf("%v, and it prints %q", err, out)
	}
}

// realCrontab is Debian's crontab(1), or another that checks without installing.
func realCrontab(t *testing.T) string {
	t.Helper()
	program, err := exec.LookPath("crontab")
	if err == nil {
		// Of no file: those that know -n fail, and for want of the file.
		var out bytes.Buffer
		cmd := exec.Command(program, "-n", filepath.Join(t.TempDir(), "none"))
		cmd.Stderr, cmd.Env = &out, append(os.Environ(), "LC_ALL=C")
		if cmd.Run() != nil && strings.Contains(out.String(), "No such file") {
			return program
		}
	}
	testkit.Missing(t, "no crontab that checks a file with -n: apt-get install cron, or scripts/setup.sh")
	return ""
}

func TestCronAcceptsTheFile(t *testing.T) {
	program := realCrontab(t)
	accepted := func(text string) error {
		path := filepath.Join(t.TempDir(), "tab")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(program, "-n", path).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	if accepted("61 * * * * x\n") == nil {
		t.Fatal("a minute that is none is accepted")
	}
	plan := schedule.Preset("production", time.UTC)
	plan = append(plan, entry(t, schedule.JobCheck, func(e *schedule.Entry) {
		e.Name, e.Times, e.MaxDuration, e.Spread = "odd", parse(t, "*/15 8-18/2 1,15 JAN-MAR,12 MON-FRI", "UTC"), time.Hour, time.Hour
	}), entry(t, schedule.JobCheck, func(e *schedule.Entry) { e.Name, e.Times = "sunday", parse(t, "5 4 * * 7", "UTC") }))
	for _, in := range []*time.Location{time.UTC, zone(t, "Asia/Kolkata")} {
		p := plan
		if in != time.UTC { // what has days of the month can't be moved
			p = slices.DeleteFunc(slices.Clone(plan), func(e schedule.Entry) bool { return slices.Contains([]string{"odd", "monthly"}, e.Name) })
		}
		block, _, err := schedule.Crontab(p, host("/etc/pgmedic.yaml", in), schedule.CrontabOptions{MailTo: "dba@clinic.example", MailToAfter: `""`, Now: noon()})
		if err != nil {
			t.Fatal(err)
		}
		if err := accepted(block); err != nil {
			t.Errorf("%v\n%s", err, block)
		}
	}
}

// TestCronInAnotherZone reads the lines back by the machine's clock: together they are the
// same moments, or the entry is refused.
func TestCronInAnotherZone(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	zones := []string{"UTC", "Asia/Kolkata", "Asia/Tokyo", "Asia/Kathmandu", "America/Phoenix", "Pacific/Kiritimati", "Pacific/Pago_Pago"}
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	refused, several := 0, 0
	for range 2000 {
		text := strings.Join([]string{
			pick("0", "*/15", "5,35", "*", "50-59", "7"), pick("2", "*", "*/6", "0", "22-23", "0,12,23", "1-5/2"),
			pick("*", "*", "*", "?", "1", "1,15", "*/10", "1-7", "1-31", "1,*"), pick("*", "*", "*", "3", "JAN-MAR"),
			pick("*", "*", "?", "1", "1-5", "SUN", "7", "0,3", "*/2", "*/7", "*/3", "0-6", "5-7", "0-7", "MON-FRI/2", "*/2,MON"),
		}, " ")
		if random.IntN(10) == 0 {
			text = "every " + pick("1m", "20m", "1h", "6h", "24h", "7d", "5h", "90m")
		}
		from, to := pick(zones...), pick(zones...)
		times := parse(t, text, from)
		e := entry(t, schedule.JobCheck, func(e *schedule.Entry) { e.Times = times })
		block, _, err := schedule.Crontab([]schedule.Entry{e}, host("/x.yaml", zone(t, to)), schedule.CrontabOptions{Now: noon()})
		if err != nil {
			if pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
				t.Fatalf("%s: %v", text, err)
			}
			refused++
			continue
		}
		var lines []*schedule.Times
		for _, l := range jobLines(block) {
			fields, _ := split(l)
			lines = append(lines, parse(t, fields, to))
		}
		several += len(lines) / 2
		at := noon()
		for range 60 {
			var got time.Time
			for _, l := range lines {
				if n := l.Next(at); got.IsZero() || n.Before(got) {
					got = n
				}
			}
			want := times.Next(at)
			if !got.Equal(want) {
				t.Fatalf("%s %s, in %s:\n%s\ncomes at %s, want %s", text, from, to, block, got, want)
			}
			at = want
		}
	}
	if refused == 0 || refused > 1000 || several == 0 {
		t.Errorf("%d of 2000 refused, %d with several lines", refused, several)
	}
}

// TestCronKeepsBothDays has days of which both have to be right: cron takes them so where
// one of the fields begins with a star, and would run on either of them otherwise.
func TestCronKeepsBothDays(t *testing.T) {
	for _, tt := range []struct{ at, from, to, want string }{
		{"0 3 1-7 * */7", "UTC", "UTC", "0 3 1-7 * */7"}, // the first Sunday
		{"0 3 1-7 * */7", "UTC", "Asia/Kolkata", "30 8 1-7 * */7"},
		{"0 3 1-7 * */2", "UTC", "Asia/Kolkata", "30 8 1-7 * */2"},
		{"0 3 */10 * 5-7", "UTC", "UTC", "0 3 */10 * 0,5,6"},
		{"0 3 1 * 0-7", "UTC", "UTC", "0 3 1 * 0-6"}, // either: every day
		{"0 3 1 * SUN-SAT", "UTC", "Asia/Kolkata", "30 8 1 * 0-6"},
		{"0 3 1,* * 1", "UTC", "UTC", "0 3 1-31 * 1"},
		{"0 3 ? * 1", "UTC", "UTC", "0 3 * * 1"},
		{"0 3 1-7 * */2,MON", "UTC", "UTC", ""},
		{"0 3 1-7 * */2,7", "UTC", "UTC", ""},
		{"0 23 1-7 * */7", "UTC", "Asia/Kolkata", ""},
	} {
		e := entry(t, schedule.JobCheck, func(e *schedule.Entry) { e.Times = parse(t, tt.at, tt.from) })
		block, _, err := schedule.Crontab([]schedule.Entry{e}, host("/x.yaml", zone(t, tt.to)), schedule.CrontabOptions{Now: noon()})
		if tt.want == "" {
			if pgmedic.KindOf(err) != pgmedic.KindUsage || pgmedic.HintOf(err) == "" {
				t.Errorf("%s: %v\n%s", tt.at, err, block)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.at, err)
			continue
		}
		if fields, _ := split(jobLines(block)[0]); fields != tt.want {
			t.Errorf("%s in %s became %s, want %s", tt.at, tt.to, fields, tt.want)
		}
	}
}

func TestCronRefusesClocksThatDrift(t *testing.T) {
	for _, tt := range []struct {
		from, to string
		ok       bool
	}{
		{"Europe/Berlin", "UTC", false},
		{"UTC", "Europe/Berlin", false},
		{"America/New_York", "Europe/Berlin", false}, // whose clocks change weeks apart
		{"Europe/Berlin", "Europe/Paris", true},
		{"Europe/Berlin", "Europe/London", true},
		{"Europe/Berlin", "Europe/Berlin", true},
		{"Australia/Lord_Howe", "Australia/Sydney", false},
	} {
		e := entry(t, schedule.JobBackup, func(e *schedule.Entry) { e.Times = parse(t, "30 2 * * *", tt.from) })
		_, _, err := schedule.Crontab([]schedule.Entry{e}, host("/x.yaml", zone(t, tt.to)), schedule.CrontabOptions{Now: noon()})
		if tt.ok != (err == nil) {
			t.Errorf("%s by the clock of %s: %v", tt.from, tt.to, err)
		}
		if err != nil && (pgmedic.KindOf(err) != pgmedic.KindUsage || !strings.Contains(pgmedic.HintOf(err), "--systemd")) {
			t.Errorf("%v, hint %q", err, pgmedic.HintOf(err))
		}
	}
}

func TestCronRefusesWhatItCannotHold(t *testing.T) {
	e := entry(t, schedule.JobBackup, nil)
	for name, tt := range map[string]struct {
		host schedule.Host
		o    schedule.CrontabOptions
	}{
		"a line break in a path": {host("/x\n* * * * * id", time.UTC), schedule.CrontabOptions{}},
		"a relative path":        {host("x.yaml", time.UTC), schedule.CrontabOptions{}},
		"no configuration":       {host("", time.UTC), schedule.CrontabOptions{}},
		"an address of two":      {host("/x", time.UTC), schedule.CrontabOptions{MailTo: "a\nb"}},
		"a long line":            {host("/"+strings.Repeat("x", 1000), time.UTC), schedule.CrontabOptions{}},
	} {
		tt.o.Now = noon()
		if _, _, err := schedule.Crontab([]schedule.Entry{e}, tt.host, tt.o); pgmedic.KindOf(err) != pgmedic.KindUsage {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBlockInACrontab(t *testing.T) {
	const source = "/etc/pgmedic.yaml"
	plan := []schedule.Entry{entry(t, schedule.JobBackup, nil)}
	block := func(source string, plan []schedule.Entry) string {
		b, _, err := schedule.Crontab(plan, host(source, time.UTC), schedule.CrontabOptions{Now: noon()})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	mine, other := block(source, plan), block("/srv/other.yaml", plan)
	for _, before := range []string{"", "MAILTO=x\n0 1 * * * y", "# a\n\n0 1 * * * y\n", other, "\r\n* * * * * z %\r\n" + other + "tail\n"} {
		with, err := schedule.Replace(before, source, mine)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(with, before) || !strings.HasSuffix(with, mine) {
			t.Errorf("%q became %q", before, with)
		}
		if b, err := schedule.FindBlock(with, source, plan); err != nil || b.State != schedule.InstalledSame {
			t.Errorf("%v, %v", b, err)
		}
		if again, err := schedule.Replace(with, source, mine); err != nil || again != with {
			t.Errorf("a second time: %q, %v", again, err)
		}
		without, err := schedule.Replace(with+"# later\n", source, "")
		if err != nil || strings.TrimSuffix(strings.TrimSuffix(without, "# later\n"), "\n") != strings.TrimSuffix(before, "\n") {
			t.Errorf("%q came back as %q, %v", before, without, err)
		}
	}
	changed := []schedule.Entry{entry(t, schedule.JobBackup, func(e *schedule.Entry) { e.Spread = time.Minute })}
	for name, tt := range map[string]struct {
		text string
		plan []schedule.Entry
		want schedule.Installed
	}{
		"nothing":         {"0 1 * * * y\n", plan, schedule.InstalledNot},
		"another's":       {other, plan, schedule.InstalledNot},
		"a newer plan":    {mine, changed, schedule.InstalledOther},
		"a line changed":  {strings.Replace(mine, "0 2 *", "0 3 *", 1), plan, schedule.InstalledEdited},
		"a line added":    {strings.Replace(mine, "# END", "0 3 * * * id\n# END", 1), plan, schedule.InstalledEdited},
		"a line disabled": {strings.Replace(mine, "\n0 2", "\n#0 2", 1), plan, schedule.InstalledEdited},
	} {
		if b, err := schedule.FindBlock(tt.text, source, tt.plan); err != nil || b.State != tt.want {
			t.Errorf("%s: %v, %v", name, b.State, err)
		}
	}
	cut, _, _ := strings.Cut(mine, "# END")
	for name, text := range map[string]string{"two": mine + mine, "no end": cut, "no end, and another's": cut + other} {
		if _, err := schedule.Replace(text, source, ""); pgmedic.KindOf(err) != pgmedic.KindConflict {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestReplaceKeepsForeignLines has what somebody wrote inside the block.
func TestReplaceKeepsForeignLines(t *testing.T) {
	const source = "/etc/pgmedic.yaml"
	mine, _, err := schedule.Crontab([]schedule.Entry{entry(t, schedule.JobBackup, nil)}, host(source, time.UTC), schedule.CrontabOptions{Now: noon()})
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(mine, "# END", "0 3 * * * id\n# END", 1)
	for _, block := range []string{mine, ""} {
		if text, err := schedule.Replace(edited, source, block); pgmedic.KindOf(err) != pgmedic.KindConflict || pgmedic.HintOf(err) == "" {
			t.Errorf("it became %q: %v", text, err)
		}
	}
}

// TestAround is what the rest of a crontab sets for a block.
func TestAround(t *testing.T) {
	const source = "/etc/pgmedic.yaml"
	block := func(source string, o schedule.CrontabOptions) string {
		o.Now = noon()
		b, _, err := schedule.Crontab([]schedule.Entry{entry(t, schedule.JobBackup, nil)}, host(source, time.UTC), o)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	mailing := schedule.CrontabOptions{MailTo: "dba@clinic.example", MailToAfter: "them@clinic.example"}
	for name, tt := range map[string]struct {
		crontab, mailTo string
		mailSet, nobody bool
		disturbing      string
	}{
		"nothing":              {"", "", false, false, ""},
		"only jobs":            {"0 1 * * * MAILTO=x TZ=UTC y\n@daily SHELL=/bin/bash z\n# CRON_TZ=UTC\n", "", false, false, ""},
		"an address":           {"MAILTO=a@b\n", "a@b", true, false, ""},
		"the last one":         {"MAILTO=a@b\n MAILTO = \"c@d\" \r\n", `"c@d"`, true, false, ""},
		"nobody":               {"MAILTO=\"\"\n", `""`, true, true, ""},
		"nobody, without any":  {"MAILTO=\n", "", true, true, ""},
		"a zone":               {"CRON_TZ=Asia/Tokyo\n0 1 * * * y\n", "", false, false, "CRON_TZ"},
		"a zone in quotes":     {"\"TZ\" = 'UTC'\n", "", false, false, "TZ"},
		"a delay":              {"RANDOM_DELAY=30\n", "", false, false, "RANDOM_DELAY"},
		"no delay":             {"RANDOM_DELAY=0\n", "", false, false, ""},
		"a shell":              {"SHELL=/bin/fish", "", false, false, "SHELL"},
		"the usual shell":      {"SHELL=/bin/fish\nSHELL=\"/bin/sh\"\n", "", false, false, ""},
		"harmless":             {"PATH=/usr/local/bin:/usr/bin\nHOME=/root\n", "", false, false, ""},
		"its own block":        {block(source, mailing), "", false, false, ""},
		"below its own block":  {block(source, mailing) + "TZ=UTC\n", "", false, false, "TZ"},
		"the block of another": {block("/srv/other.yaml", mailing), "them@clinic.example", true, false, ""},
	} {
		e, err := schedule.Around(tt.crontab, source)
		if (tt.disturbing != "") != (pgmedic.KindOf(err) == pgmedic.KindConflict && err != nil) || tt.disturbing != "" && !strings.Contains(err.Error(), " sets "+tt.disturbing+" ") {
			t.Errorf("%s: %v", name, err)
		}
		if e.MailTo != tt.mailTo || e.MailSet != tt.mailSet || e.MailsNobody() != tt.nobody || e.Disturbing != tt.disturbing {
			t.Errorf("%s: %+v", name, e)
		}
	}
	with := "CRON_TZ=Asia/Tokyo\n" + block(source, mailing)
	if b, err := schedule.FindBlock(with, source, []schedule.Entry{entry(t, schedule.JobBackup, nil)}); err != nil || b.Above.Disturbing != "CRON_TZ" || b.State != schedule.InstalledSame {
		t.Errorf("%+v, %v", b, err)
	}
}

// TestCronSaysWhatItCannotDo has jobs whose missed runs are to be made up for, said or by
// default, and others.
func TestCronSaysWhatItCannotDo(t *testing.T) {
	for _, tt := range []struct {
		job    schedule.Job
		missed schedule.Missed
		want   bool
	}{
		{schedule.JobBackup, "", true},
		{schedule.JobBackup, schedule.MissedOnce, true},
		{schedule.JobBackup, schedule.MissedSkip, false},
		{schedule.JobReport, "", false},
		{schedule.JobReport, schedule.MissedOnce, true},
	} {
		e := entry(t, tt.job, func(e *schedule.Entry) { e.Missed = tt.missed })
		_, notes, err := schedule.Crontab([]schedule.Entry{e}, host("/x.yaml", time.UTC), schedule.CrontabOptions{Now: noon()})
		if err != nil || (len(notes) == 1) != tt.want {
			t.Errorf("%s, missed %q: %v, %v", tt.job, tt.missed, notes, err)
		}
	}
}

func TestSpread(t *testing.T) {
	delays := map[int]bool{}
	for i := range 40 {
		h := host("/x.yaml", time.UTC)
		h.Name = fmt.Sprintf("db%d", i)
		e := entry(t, schedule.JobBackup, func(e *schedule.Entry) { e.Spread = 10 * time.Minute })
		block, _, err := schedule.Crontab([]schedule.Entry{e}, h, schedule.CrontabOptions{Now: noon()})
		again, _, _ := schedule.Crontab([]schedule.Entry{e}, h, schedule.CrontabOptions{Now: noon().AddDate(0, 1, 0)})
		if err != nil || again != block {
			t.Fatalf("%v; the delay is not the same each time", err)
		}
		_, command := split(jobLines(block)[0])
		seconds := 0
		if _, err := fmt.Sscanf(command, "sleep %d;", &seconds); err == nil && (seconds < 1 || seconds > 600) {
			t.Errorf("a delay of %d s", seconds)
		}
		delays[seconds] = true
	}
	if len(delays) < 30 {
		t.Errorf("40 hosts share %d delays", len(delays))
	}
}
