package drill

import (
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/scratch"
)

// cage is what confines a private server.
func (o Options) cage() *scratch.Cage {
	c := scratch.CageFor(o.Backup.Database.SizeBytes, o.PreloadLibraries)
	c.Kernel = o.Kernel
	return c
}

// overran is why the server was ended, if it was for filling the disk.
func (p *place) overran() error {
	if p.overrun == nil {
		return nil
	}
	return p.overrun()
}

// CageCheck says of a scratch what keeps the content of the backup from this
// machine: which walls stood, and which did not. If only a user id of its own is
// missing, that is not a warning: it takes root, and the other walls stand between
// processes of one user as well.
func CageCheck(s *pgmedic.Scratch) pgmedic.Check {
	c := pgmedic.Check{Name: "cage"}
	if s.Kind != pgmedic.ScratchPrivate {
		c.Outcome = pgmedic.OutcomeSkipped
		c.Detail = "not caged: code in the backup can do what that server can"
		return c
	}
	c.Outcome, c.Detail = pgmedic.OutcomeOK, "walls: "+list(s.Walls)
	if len(s.Walls) == 0 {
		c.Detail = "no walls"
	}
	if len(s.MissingWalls) == 0 {
		return c
	}
	c.Detail += "; missing: " + list(s.MissingWalls)
	open := slices.DeleteFunc(slices.Clone(s.MissingWalls), func(w pgmedic.Wall) bool { return w == pgmedic.WallOwnUser })
	if len(open) == 0 {
		return c
	}
	c.Outcome = pgmedic.OutcomeWarn
	c.Detail += ": there, code in the backup can do what the user who runs the server can"
	c.Hint = hintFor(open)
	return c
}

// hintFor says how to get missing walls.
func hintFor(missing []pgmedic.Wall) string {
	var hints []string
	for _, need := range []struct {
		walls []pgmedic.Wall
		hint  string
	}{
		{[]pgmedic.Wall{pgmedic.WallFiles}, "files: Linux 5.13 or later with Landlock in its list of security modules"},
		{[]pgmedic.Wall{pgmedic.WallSockets, pgmedic.WallNetwork}, "sockets and network: Linux with seccomp filters, on amd64 or arm64"},
		{[]pgmedic.Wall{pgmedic.WallProcesses}, "processes: user namespaces, Linux 6.12 with Landlock, or root"},
		{[]pgmedic.Wall{pgmedic.WallPrivileges, pgmedic.WallMemory, pgmedic.WallLimits}, "the others: Linux with /proc mounted"},
	} {
		if slices.ContainsFunc(need.walls, func(w pgmedic.Wall) bool { return slices.Contains(missing, w) }) {
			hints = append(hints, need.hint)
		}
	}
	return "drill on a host that has them (" + strings.Join(hints, "; ") + "), or only backups of databases whose users you trust"
}

func list(walls []pgmedic.Wall) string {
	words := make([]string, len(walls))
	for i, w := range walls {
		words[i] = string(w)
	}
	return strings.Join(words, ", ")
}
