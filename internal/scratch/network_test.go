package scratch_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/scratch/scratchtest"
)

// TestNoNetwork looks at the network that a server has: none but a loopback that
// is down, where the system allows it, and what it says of it is true.
func TestNoNetwork(t *testing.T) {
	for _, major := range scratchtest.Majors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			parent := parentDir(t)
			server := scratchtest.New(t, scratch.Options{Major: major, Parent: parent, NoNetwork: true})
			if got := query(t, server.DSN("postgres"), "SELECT 'answers'"); got != "answers" {
				t.Errorf("got %q", got)
			}
			if runtime.GOOS == "linux" {
				ours, err := os.Readlink("/proc/self/ns/net")
				if err != nil {
					t.Fatal(err)
				}
				its, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(server.PID()), "ns", "net"))
				if err != nil {
					t.Fatal(err)
				}
				if server.NoNetwork() != (ours != its) {
					t.Errorf("without network: %t, namespaces %s and %s", server.NoNetwork(), ours, its)
				}
				if os.Geteuid() == 0 && !server.NoNetwork() && canUnshare() {
					t.Error("the server has a network")
				}
			} else if server.NoNetwork() {
				t.Error("it says that it has no network")
			}
			stopAndCheck(t, server, parent)
		})
	}
	plain := scratchtest.New(t, scratch.Options{})
	if plain.NoNetwork() {
		t.Error("a server that was not asked to says that it has no network")
	}
	_, err := scratch.Start(t.Context(), scratch.Options{NoNetwork: true, TCP: true, SearchDirs: scratchtest.SearchDirs()})
	if pgmedic.KindOf(err) != pgmedic.KindUsage {
		t.Errorf("a network and none: %v", err)
	}
}
