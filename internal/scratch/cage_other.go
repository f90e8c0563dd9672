//go:build !linux

package scratch

import "io/fs"

// ProbeKernel reports that this system offers nothing for a cage.
func ProbeKernel() Kernel { return Kernel{} }

// machineMemory is not needed where nothing bounds it.
func machineMemory() uint64 { return 0 }

// claimAccount finds none.
func claimAccount() (account, error) { return account{}, nil }

// endProcesses and endLeftovers have nothing to end where no server has a user id
// of its own.
func endProcesses(int) {}

func endLeftovers(int) {}

// findPostmaster finds nothing: a server's file has its process id.
func findPostmaster(string) int { return 0 }

// blocks is the size of a file.
func blocks(info fs.FileInfo) uint64 { return uint64(max(info.Size(), 0)) }

// gated is a process that was started.
type gated struct {
	process *process
	seen    seen
}

func (g *gated) end() { g.process.killGroup() }

// launchCaged starts a program without a cage.
func (s *Server) launchCaged(path string, args ...string) (*process, error) {
	g, err := s.launchGated(path, args...)
	if err != nil {
		return nil, err
	}
	s.walls = g.seen.walls()
	return g.process, nil
}

func (s *Server) launchGated(path string, args ...string) (*gated, error) {
	p, err := launch(s.command(path, args...), nil)
	return &gated{process: p}, err
}

// onOwnThread is not needed where threads are not restricted.
func onOwnThread(f func()) { go f() }
