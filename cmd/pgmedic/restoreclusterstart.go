package main

import (
	"context"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/restore/cluster"
	"github.com/pgmedic/pgmedic/internal/scratch"
	"github.com/pgmedic/pgmedic/internal/words"
)

// start recovers the restored cluster with the installed PostgreSQL of its version, and
// starts it.
func (cmd *clusterCommand) start(ctx context.Context, j *clusterJob) (*cluster.Recovered, error) {
	dir, err := cmd.programs(ctx, j)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		return cluster.Start(ctx, cluster.StartOptions{
			Dir: j.options.Dir, Plan: j.plan, BinDir: dir, Owner: j.options.Owner, Environ: cmd.environ,
			Port: cmd.cluster.startPort, Preload: j.entry.Backup.Physical.Preload,
		})
	}
	return nil, pgmedic.Errorf(pgmedic.KindUsage, "install it, or name its folder of programs in postgres.bin_dirs (PGMEDIC_POSTGRES_DIRS), and start it on the folder",
		"the cluster is restored, and not started: PostgreSQL %d is not installed on this machine", j.plan.Major)
}

// programs returns the folder of the programs of PostgreSQL of the cluster's version, and an
// empty text if it is not installed.
func (cmd *clusterCommand) programs(ctx context.Context, j *clusterJob) (string, error) {
	found, err := scratch.Find(ctx, scratch.FindOptions{SearchDirs: cmd.cfg.Postgres.BinDirs, Logger: cmd.log})
	if err != nil {
		return "", err
	}
	for _, installed := range found {
		if installed.Major == j.plan.Major {
			return installed.BinDir, nil
		}
	}
	return "", nil
}

// warnLibraries warns of libraries without which the server does not start, if they are not
// installed on this machine.
func (cmd *clusterCommand) warnLibraries(ctx context.Context, j *clusterJob, c cluster.Configuration) {
	if len(c.Preload) == 0 {
		return
	}
	dir, err := cmd.programs(ctx, j)
	if err != nil || dir == "" {
		return // which --start says, and without it the server may be started elsewhere
	}
	missing, known := c.MissingLibraries(dir)
	switch {
	case !known:
		cmd.log.Warn("not checked whether the libraries that the server preloads are installed here", "libraries", words.Clean(strings.Join(c.Preload, ", ")))
	case len(missing) > 0:
		cmd.log.Warn("the server does not start: libraries that it preloads are not installed here", "libraries", words.Clean(strings.Join(missing, ", ")), "postgresql", dir)
	}
}
