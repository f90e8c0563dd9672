package swap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/failpoint"
	"github.com/pgmedic/pgmedic/internal/postgres"
	"github.com/pgmedic/pgmedic/internal/postgres/databases"
	"github.com/pgmedic/pgmedic/internal/progress"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// PrunePolicy says which of the databases that pgmedic made may be dropped.
type PrunePolicy struct {
	// Keep is how long a database that was set aside is kept.
	Keep time.Duration
	// Now is by the server's clock, as the stories are.
	Now time.Time
}

// Pruned is a database that pgmedic made, and what is planned for it.
type Pruned struct {
	Database string `json:"database"`
	// Of is the database that it was, or was to become.
	Of string `json:"of"`
	// State is kept, ready, loading or dropping.
	State string `json:"state"`
	// Since and AgeSeconds are by the server's clock.
	Since      time.Time `json:"since"`
	AgeSeconds float64   `json:"age_seconds"`
	SizeBytes  int64     `json:"size_bytes"`
	// Drop is the plan, Reason why, and Dropped what was done.
	Drop    bool   `json:"drop"`
	Reason  string `json:"reason"`
	Dropped bool   `json:"dropped"`

	oid uint32
}

// PlanPrune decides, of the databases that pgmedic made or set aside, which may
// be dropped: never one that is in use or was opened, that something else depends on,
// or that is not what its story says.
func PlanPrune(found []databases.Kept, p PrunePolicy) []Pruned {
	plan := make([]Pruned, 0, len(found))
	for _, k := range found {
		d := Pruned{
			Database: k.Name, Of: k.Story.Of, State: k.Story.Pgmedic, Since: k.Story.Since.UTC(),
			AgeSeconds: progress.Seconds(p.Now.Sub(k.Story.Since)), SizeBytes: k.SizeBytes, oid: k.OID,
		}
		d.Drop, d.Reason = judge(k, p)
		plan = append(plan, d)
	}
	slices.SortStableFunc(plan, func(a, b Pruned) int { return b.Since.Compare(a.Since) })
	return plan
}

func judge(k databases.Kept, p PrunePolicy) (drop bool, reason string) {
	age := p.Now.Sub(k.Story.Since)
	kept := k.Story.Pgmedic == pgmedic.StoryKept
	begun := k.Story.Pgmedic == pgmedic.StoryDropping
	switch {
	case !kept && !begun && k.Story.Pgmedic != pgmedic.StoryReady && k.Story.Pgmedic != pgmedic.StoryLoading:
		return false, "this version does not know what it is"
	case k.Story.Name != "" && k.Name != k.Story.Name:
		return false, "it was renamed"
	case k.Name == k.Story.Of && (k.Story.Pgmedic != pgmedic.StoryLoading || k.Story.Name == ""):
		return false, "it is live: the story in its comment is not its own"
	case kept && !k.Invalid && k.LiveOwner == "":
		return false, fmt.Sprintf("there is no database %q: this may be all that is left of it", k.Story.Of)
	case k.Distrust() != "" && (k.LiveOwner != "" || kept || begun): // a copy of a database that does not exist harms only its owner
		return false, k.Distrust() + "; drop it by hand if it is not needed"
	case k.Invalid:
		return true, "its DROP DATABASE was interrupted: nothing in it can be recovered"
	case k.LogicalSlots > 0:
		return false, fmt.Sprintf("%d logical replication slots are bound to it: their readers would lose their place", k.LogicalSlots)
	case k.PreparedTransactions > 0:
		return false, fmt.Sprintf("%d prepared transactions are in it", k.PreparedTransactions)
	case k.Sessions > 0:
		verb := "are"
		if k.Sessions == 1 {
			verb = "is"
		}
		return false, fmt.Sprintf("%s %s connected to it", words.Plural(k.Sessions, "session"), verb)
	case (kept || begun) && k.Subscriptions > 0:
		return false, fmt.Sprintf("it has %d subscriptions: open it, drop them, and drop it by hand", k.Subscriptions)
	case (kept || begun) && k.Open:
		return false, "it was opened to connections: close it, or drop it by hand"
	case begun:
		return true, "its DROP DATABASE was begun before"
	case kept && k.FromFuture(p.Now):
		return false, "it says that it was set aside in the future, at " + k.Story.Since.UTC().Format("2006-01-02 15:04:05Z") + ": check the server's clock, or drop it by hand"
	case kept && age < p.Keep:
		return false, "it is kept until " + k.Story.Since.Add(p.Keep).UTC().Format("2006-01-02 15:04:05Z")
	case kept:
		return true, fmt.Sprintf("it was set aside more than %s ago", words.Duration(p.Keep))
	}
	if k.Story.By == "drill" {
		return true, "a drill that was killed left it"
	}
	return true, "a restore that was killed left it"
}

// PruneOptions say where Prune works. Required: Target, Keep, Logger.
type PruneOptions struct {
	Target      postgres.Target
	Maintenance string
	// Keep is how long a database that was set aside is kept.
	Keep time.Duration
	// Confirm is shown the plan; an error stops the run. Nil drops nothing.
	Confirm func([]Pruned) error
	Logger  *slog.Logger
}

// Prune drops the databases that swaps set aside and whose time is over, and
// what dead restores left. It returns the plan with what was done.
func Prune(ctx context.Context, o PruneOptions) ([]Pruned, error) {
	if o.Maintenance == "" {
		o.Maintenance = postgres.DefaultMaintenance
	}
	conn, err := postgres.ConnectAdmin(ctx, o.Target, o.Maintenance)
	if err != nil {
		return nil, err
	}
	defer postgres.Close(ctx, conn)
	server, err := postgres.ReadServer(ctx, conn)
	if err != nil {
		return nil, err
	}
	if err := databases.RefuseStandby(server); err != nil {
		return nil, err
	}
	found, err := databases.ReadAllStories(ctx, conn)
	if err != nil {
		return nil, err
	}
	policy, err := o.policy(ctx, conn)
	if err != nil {
		return nil, err
	}
	plan := PlanPrune(found, policy)
	if o.Confirm == nil || !slices.ContainsFunc(plan, func(p Pruned) bool { return p.Drop }) {
		return plan, nil
	}
	if err := o.Confirm(plan); err != nil {
		return plan, err
	}
	var errs []error
	for i := range plan {
		if plan[i].Drop && ctx.Err() == nil {
			errs = append(errs, o.drop(ctx, conn, server.VersionNum, &plan[i]))
		}
	}
	return plan, errors.Join(append(errs, context.Cause(ctx))...)
}

func (o PruneOptions) policy(ctx context.Context, conn *pgx.Conn) (p PrunePolicy, err error) {
	p.Keep = o.Keep
	p.Now, err = databases.ServerTime(ctx, conn)
	return p, err
}

// drop drops one database under the locks that a restore of it would hold,
// after it has checked again whether it may.
func (o PruneOptions) drop(ctx context.Context, conn *pgx.Conn, versionNum int, p *Pruned) error {
	for _, name := range slices.Compact([]string{p.Of, p.Database}) {
		lock, err := databases.AcquireRunLock(ctx, o.Target, o.Maintenance, name)
		if pgmedic.KindOf(err) == pgmedic.KindConflict && err != nil {
			p.Drop, p.Reason = false, "another run works on database "+name
			return nil
		}
		if err != nil {
			return err
		}
		defer lock.Release(ctx)
	}
	found, err := databases.ReadAllStories(ctx, conn)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(found, func(k databases.Kept) bool { return k.Name == p.Database && k.OID == p.oid })
	if i < 0 {
		p.Drop, p.Reason = false, "it is gone, or has another name now"
		return nil
	}
	policy, err := o.policy(ctx, conn)
	if err != nil {
		return err
	}
	k := found[i]
	if p.Drop, p.Reason = judge(k, policy); !p.Drop {
		return nil
	}
	switch {
	case k.Invalid, k.Story.Pgmedic == pgmedic.StoryDropping:
		err = databases.DropUnused(ctx, conn, k.Name)
	case k.Story.Pgmedic == pgmedic.StoryKept:
		err = dropKept(ctx, conn, k)
	default:
		err = databases.DropWhole(ctx, conn, o.Target.WithDatabase(p.Database), versionNum)
	}
	if postgres.Code(err) == "55006" {
		p.Drop, p.Reason = false, "a session connected to it at this moment"
		return nil
	}
	p.Dropped = err == nil
	return err
}

// dropKept drops a database that was set aside. Its story says so first: a server
// that marks no database whose DROP DATABASE was begun would otherwise have one half
// gone that looks whole, and a rollback would take it.
func dropKept(ctx context.Context, conn *pgx.Conn, k databases.Kept) error {
	if ctx.Err() != nil {
		return fmt.Errorf("drop database %s: %w", sqltext.QuoteIdent(k.Name), context.Cause(ctx))
	}
	whole := context.WithoutCancel(ctx) // from here to the end of it or back
	begun := k.Story
	begun.Pgmedic = pgmedic.StoryDropping
	if err := setStory(whole, conn, k.Name, begun); err != nil {
		return err
	}
	failpoint.Hit(ctx, "prune-dropping")
	// Without force: a session that connects at the last moment keeps it.
	err := databases.DropUnused(whole, conn, k.Name)
	if postgres.Code(err) == "55006" { // nothing of it was dropped
		err = errors.Join(err, setStory(whole, conn, k.Name, k.Story))
	}
	return err
}

func setStory(ctx context.Context, conn *pgx.Conn, name string, s pgmedic.Story) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return databases.SetLastingStory(ctx, conn, name, s)
}
