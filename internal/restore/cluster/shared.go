package cluster

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic/internal/words"
)

// checkShared refuses a folder of WAL or of a tablespace that another cluster of the same
// version has, too, as far as that can be known: a data folder that was copied with its links
// leads to the files of the living one. Clusters of other versions have a folder of their own
// in that of a tablespace.
func (o Options) checkShared(dir string) error {
	found := make(chan string, 1)
	// A folder on a server that is away can keep whoever looks at it for ever.
	go func() { found <- o.sharing(dir) }()
	select {
	case other := <-found:
		if other != "" {
			return conflict("give it another place, with --tablespace "+o.from(dir)+"=/another/path or --wal-dir, or remove the link in "+filepath.Join(o.Dir, "pg_tblspc"),
				"%s is in use by the cluster in %s, too: %s may be a copy of that", dir, words.Clean(other), o.Dir)
		}
	case <-time.After(lookAround):
		o.Logger.Warn("not checked whether another cluster uses the folder, too: a folder of a running program can't be read", "folder", words.Clean(dir), "after", lookAround.String())
	}
	return nil
}

// lookAround bounds how long other clusters are looked for; it takes milliseconds where every
// file system answers. Our choice.
const lookAround = 30 * time.Second

// sharing returns the data folder of another cluster that has a folder, too, or an empty text.
func (o Options) sharing(dir string) string {
	target, err := os.Stat(dir)
	if err != nil { // what is wrong with it is said elsewhere
		return ""
	}
	for _, other := range neighbours(o.Dir) {
		if version, err := os.ReadFile(filepath.Join(other, versionFile)); err != nil || strings.TrimSpace(string(version)) != strconv.Itoa(o.Plan.Major) {
			continue
		}
		for _, link := range linksOf(other) {
			if at, err := os.Stat(link); err == nil && os.SameFile(at, target) {
				return other
			}
		}
	}
	return ""
}

// linksOf returns what can be a link in a data folder.
func linksOf(data string) []string {
	all := []string{filepath.Join(data, "pg_wal")}
	entries, err := os.ReadDir(filepath.Join(data, "pg_tblspc"))
	if err != nil {
		return all
	}
	for _, e := range entries {
		all = append(all, filepath.Join(data, "pg_tblspc", e.Name()))
	}
	return all
}

// startedOn matches the data folder in postmaster.opts, the command that a server was last
// started with (CreateOptsFile in postmaster.c).
var startedOn = regexp.MustCompile(`"-D"? ?"?([^"\n]+)"`)

// neighbours returns the data folders of other clusters that are easily found: those in which
// a program runs, as servers do, those beside a data folder, and the one in which its server
// was started last, which a copy remembers. What can't be read is left out.
func neighbours(dir string) (all []string) {
	own, err := os.Stat(dir)
	if err != nil {
		return nil
	}
	seen := map[string]bool{}
	add := func(other string) {
		info, err := os.Stat(other)
		if err == nil && info.IsDir() && !seen[other] && !os.SameFile(info, own) {
			all = append(all, other)
		}
		seen[other] = true
	}
	if opts, err := os.ReadFile(filepath.Join(dir, "postmaster.opts")); err == nil {
		// A relative path was from a folder that nothing remembers.
		if m := startedOn.FindSubmatch(opts); m != nil && filepath.IsAbs(string(m[1])) {
			add(string(m[1]))
		}
	}
	for _, place := range []string{"/proc", filepath.Dir(dir)} {
		entries, err := os.ReadDir(place)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if place != "/proc" {
				add(filepath.Join(place, e.Name()))
			} else if at, err := os.Readlink(filepath.Join(place, e.Name(), "cwd")); err == nil {
				add(at)
			}
		}
	}
	return all
}
