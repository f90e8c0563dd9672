package bench

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic/internal/owner"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/testkit"
)

// BenchmarkPhysicalBackup compares a sealed base backup, and a restore of its files, with
// pgBackRest's of the same server: two processes, zstd, at the level whose backup is about
// as large as ours. Both leave WAL alone but for what the backup itself needs, of which
// pgBackRest, without an archive, stores nothing. It encrypts in the second pair only;
// ours always does.
func BenchmarkPhysicalBackup(b *testing.B) {
	theirs, err := exec.LookPath("pgbackrest")
	if err != nil {
		testkit.Missing(b, "pgbackrest: apt-get install pgbackrest")
	}
	server, dsn := filled(b, mixed+";\nCHECKPOINT")
	ours := newOurs(b, server)
	for _, c := range []struct{ name, more string }{
		{"pgbackrest-zst", ""},
		{"pgbackrest-zst-aes", "repo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=" + strings.Repeat("bench ", 8) + "\n"},
	} {
		rival := newRival(b, theirs, server, c.more)
		rival.run("stanza-create")
		b.Run("backup-against-"+c.name, func(b *testing.B) {
			pairs(b,
				func() run { return measure(b, dsn, ours.env, ours.program, ours.backup...) },
				func() run { return measure(b, dsn, nil, theirs, rival.args("--type=full", "backup")...) })
			b.ReportMetric(float64(size(b, ours.store))/float64(b.N+1)/(1<<20), "MiB-ours")
			b.ReportMetric(float64(size(b, filepath.Join(rival.repo, "backup")))/float64(b.N+1)/(1<<20), "MiB-theirs")
		})
		b.Run("restore-against-"+c.name, func(b *testing.B) {
			into := func(restore func(dir string) run) run {
				dir := folderLike(b, server.DataDir())
				r := restore(dir)
				empty(b, dir)
				return r
			}
			pairs(b,
				func() run {
					return into(func(dir string) run {
						return measure(b, dsn, ours.env, ours.program, append(ours.restore, dir)...)
					})
				},
				func() run {
					return into(func(dir string) run {
						return measure(b, dsn, nil, theirs, rival.args("--type=none", "--pg1-path="+dir, "restore")...)
					})
				})
		})
	}
}

// BenchmarkBaseBackupOnServer compares what a base backup costs the server, and its time,
// with pg_basebackup's to a tar that nobody keeps: processor-ours/theirs has both ends.
func BenchmarkBaseBackupOnServer(b *testing.B) {
	server, dsn := filled(b, mixed+";\nCHECKPOINT")
	theirs := filepath.Join(server.BinDir(), "pg_basebackup")
	if _, err := os.Stat(theirs); err != nil {
		testkit.Missing(b, "pg_basebackup: "+err.Error())
	}
	ours := newOurs(b, server)
	var mine, other []float64
	pairs(b,
		func() run {
			before := serverTime(b, dsn)
			r := measure(b, dsn, ours.env, ours.program, ours.backup...)
			mine = append(mine, (serverTime(b, dsn) - before).Seconds())
			return r
		},
		func() run {
			before := serverTime(b, dsn)
			r := measure(b, dsn, nil, "bash", "-c", `"$0" -d "$1" -D - -Ft -X none -c fast --no-verify-checksums > /dev/null`, theirs, dsn)
			other = append(other, (serverTime(b, dsn) - before).Seconds())
			return r
		})
	b.ReportMetric(median(mine)/median(other), "server-ours/theirs")
}

// folderLike makes an empty folder that belongs to who runs the server: root, who runs the
// benchmark in a container, may not.
func folderLike(b *testing.B, dataDir string) (dir string) {
	b.Helper()
	dir = filepath.Join(b.TempDir(), "restored")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(dataDir)
	if err != nil {
		b.Fatal(err)
	}
	if id, known := owner.Of(info); known {
		if err := os.Chown(dir, id.UID, id.GID); err != nil {
			b.Fatal(err)
		}
	}
	return dir
}

// empty gives the room of all files below a folder back. To delete them would slow the next
// restores down: ext4 looks for inodes for minutes that were not freed lately
// (recently_deleted in fs/ext4/ialloc.c), which takes longer than to make the file.
func empty(b *testing.B, dir string) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		return os.Truncate(path, 0)
	})
	if err != nil {
		b.Fatal(err)
	}
}

// oursOf is how pgmedic is run.
type oursOf struct {
	program, store  string
	env             []string
	backup, restore []string
}

func newOurs(b *testing.B, server *scratch.Server) oursOf {
	b.Helper()
	dir := b.TempDir()
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	key := filepath.Join(dir, "key.txt")
	if err := os.WriteFile(key, []byte(identity.String()+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	o := oursOf{program: binary(b), store: filepath.Join(dir, "store")}
	o.env = []string{
		"DATABASE_URL=" + server.URL("postgres"), "PGMEDIC_SERVER=bench", "BACKUP_DIR=" + o.store, "HOME=" + dir,
		"BACKUP_RECIPIENTS=" + identity.Recipient().String(), "PGMEDIC_IDENTITY_FILES=" + key,
	}
	o.backup = []string{"backup", "--method", "physical", "--checkpoint", "fast", "--quiet"}
	o.restore = []string{"restore", "latest", "--to-backup", "--quiet", "--yes", "--target-dir"}
	return o
}

// rivalOf is how pgBackRest is run.
type rivalOf struct {
	b                     *testing.B
	program, config, repo string
}

func newRival(b *testing.B, program string, server *scratch.Server, more string) rivalOf {
	b.Helper()
	dir := b.TempDir()
	r := rivalOf{b, program, filepath.Join(dir, "pgbackrest.conf"), filepath.Join(dir, "repo")}
	socket, err := pgx.ParseConfig(server.DSN("postgres"))
	if err != nil {
		b.Fatal(err)
	}
	text := fmt.Sprintf(`[global]
repo1-path=%s
%sprocess-max=2
compress-type=zst
compress-level=1
start-fast=y
repo1-retention-full=99
archive-check=n
archive-mode-check=n
allow-root=y
log-level-console=off
log-level-file=off
lock-path=%s
[main]
pg1-path=%s
pg1-port=%d
pg1-socket-path=%s
pg1-user=%s
`, r.repo, more, filepath.Join(dir, "lock"), server.DataDir(), socket.Port, socket.Host, socket.User)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return r
}

func (r rivalOf) args(more ...string) []string {
	return append([]string{"--config=" + r.config, "--stanza=main"}, more...)
}

func (r rivalOf) run(more ...string) {
	r.b.Helper()
	if out, err := exec.CommandContext(r.b.Context(), r.program, r.args(more...)...).CombinedOutput(); err != nil {
		r.b.Fatalf("pgbackrest %s: %v\n%s", strings.Join(more, " "), err, out)
	}
}

// size is how many bytes the files of a folder have.
func size(b *testing.B, dir string) (total int64) {
	b.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return total
}
