package test

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/pgmedic/pgmedic/internal/testkit"
)

// TestScheduleInARealCrontab installs and takes away schedules with this machine's own
// crontab(1), as a user who has no crontab and gets none to keep.
func TestScheduleInARealCrontab(t *testing.T) {
	if os.Geteuid() != 0 {
		testkit.Elsewhere(t, "takes root, to act as a user whose crontab is nobody's")
	}
	crontab, err := exec.LookPath("crontab")
	if err != nil {
		testkit.Missing(t, "no crontab: apt-get install cron, or scripts/setup.sh")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		testkit.Elsewhere(t, "there is no user nobody")
	}
	uid, uidErr := strconv.ParseUint(nobody.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(nobody.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		t.Fatal(uidErr, gidErr)
	}
	dir, err := os.MkdirTemp("", "cron-") //nolint:usetesting // into which another user could not get
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// The user has to get in, whatever the umask is.
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	// The home folder is another user's, where no audit log can be written.
	const settings = "DB_HOST=127.0.0.1\nDB_NAME=clinic\nBACKUP_DIR=./backups\nPGMEDIC_AUDIT_FILE=off\n"
	for name, data := range map[string][]byte{"pgmedic": program, ".env": []byte(settings)} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	as := func(program string, args ...string) (string, error) {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C"}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := as(crontab, "-l"); err == nil || !strings.HasPrefix(out, "no crontab for nobody") {
		testkit.Elsewhere(t, "nobody has a crontab here, or may not have one: "+strings.TrimSpace(out))
	}
	t.Cleanup(func() { _, _ = as(crontab, "-r") })
	pgmedic := filepath.Join(dir, "pgmedic")
	if out, err := as(pgmedic, "schedule", "install", "--cron", "--zone", "UTC", "--yes"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := as(crontab, "-l")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"0 2 * * * out=$(" + pgmedic + " --env-file=" + dir + "/.env backup --quiet", " prune --quiet --yes ", "0 6 * * 1 out=$("} {
		if !strings.Contains(out, want) {
			t.Errorf("the crontab lacks %s:\n%s", want, out)
		}
	}
	if out, err := as(pgmedic, "schedule", "install", "--cron", "--zone", "UTC", "--yes"); err != nil || !strings.Contains(out, "nothing to change") {
		t.Errorf("a second time: %v: %s", err, out)
	}
	if out, err := as(pgmedic, "schedule", "uninstall", "--yes"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := as(crontab, "-l"); err == nil || !strings.HasPrefix(out, "no crontab for nobody") {
		t.Errorf("there is still a crontab: %s", out)
	}
}
