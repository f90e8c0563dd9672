package main

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/poolstate"
	"github.com/pgmedic/pgmedic/internal/words"
)

// pools are where --pool says that services describe their connection pools. Where they
// would not be shown, and where they are files that can't be read, they are refused.
func (cmd *reportCommand) pools(ctx context.Context) ([]poolstate.Source, error) {
	f := cmd.flags
	asked := f.sections == nil || slices.Contains(f.sections, reading.SectionServices)
	if len(f.pools) == 0 {
		if f.sections != nil && asked && f.input == "" {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, "name a pool with --pool", "section services needs a service")
		}
		return nil, nil
	}
	for _, other := range []struct {
		given        bool
		option, hint string
	}{
		{f.input != "", "--input", "the file has the pools that its report was given"},
		{f.watch != 0, "--watch", "leave it out, or alert on the metrics of the service"},
		{f.format == "prometheus", "--format prometheus", "scrape the metrics of the service"},
		{!asked, "--section without services", "add services to --section"},
	} {
		if other.given {
			return nil, pgmedic.Errorf(pgmedic.KindUsage, other.hint, "--pool and %s together", other.option)
		}
	}
	var all []poolstate.Source
	for _, text := range f.pools {
		source, err := poolstate.ParseSource(text)
		if err != nil {
			return nil, err
		}
		if err := source.Check(ctx); err != nil {
			return nil, err
		}
		all = append(all, source)
	}
	return all, nil
}

// unread collects the pools that could not be read.
type unread struct {
	reasons []string
	hint    string
}

func (u *unread) add(source poolstate.Source, err error) {
	u.reasons = append(u.reasons, source.Name()+": "+err.Error())
	u.hint = cmp.Or(u.hint, pgmedic.HintOf(err))
}

// err is of a report that is made and lacks a pool that was asked for.
func (u *unread) err() error {
	if len(u.reasons) == 0 {
		return nil
	}
	return pgmedic.Errorf(pgmedic.KindDegraded, cmp.Or(u.hint, "check that the service runs and that it serves db.SnapshotHandler() there"),
		"the report is made without %s: %s", words.Plural(len(u.reasons), "pool"), words.OneLine(strings.Join(u.reasons, "; ")))
}
