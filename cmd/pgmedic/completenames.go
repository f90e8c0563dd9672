package main

import (
	"context"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/alert"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/sqltext"
)

// tableFlags and schemaFlags are the flags whose value is a table or a schema, or a
// pattern of them.
func tableFlags() []string  { return []string{"table", "exclude-table", "exclude-table-data"} }
func schemaFlags() []string { return []string{"schema", "exclude-schema"} }

// backupNamed is the backup that the arguments name, or the newest one; nil where there is
// none.
func (comp completer) backupNamed(ctx context.Context, cmd *cobra.Command, args []string) (*catalog.Catalog, *pgmedic.Backup, func()) {
	j, ok := comp.load(cmd)
	if !ok {
		return nil, nil, nil
	}
	c, closed, err := stores{j}.openCatalog(ctx)
	if err != nil {
		return nil, nil, nil
	}
	ref := catalog.Latest
	if len(args) > 0 {
		ref = args[0]
	}
	e, err := c.Get(ctx, ref, catalog.Filter{Server: j.cfg.Server})
	if err != nil && len(args) > 0 { // it may be a database
		e, err = c.Get(ctx, catalog.Latest, catalog.Filter{Server: j.cfg.Server, Database: args[0]})
	}
	if err != nil {
		closed()
		return nil, nil, nil
	}
	return c, e.Backup, func() { closed() }
}

// tableNames are the tables of a backup, as its manifest has them. No server is asked.
func (comp completer) tableNames(ctx context.Context, cmd *cobra.Command, args []string) []string {
	_, b, closed := comp.backupNamed(ctx, cmd, args)
	if b == nil {
		return nil
	}
	defer closed()
	names := make([]string, 0, len(b.Tables))
	for _, t := range b.Tables {
		names = append(names, sqltext.ReadableTable(t.Schema, t.Name))
	}
	slices.Sort(names)
	return names
}

// schemaNames are the schemas of the same tables.
func (comp completer) schemaNames(ctx context.Context, cmd *cobra.Command, args []string) []string {
	_, b, closed := comp.backupNamed(ctx, cmd, args)
	if b == nil {
		return nil
	}
	defer closed()
	names := map[string]bool{}
	for _, t := range b.Tables {
		names[sqltext.Readable(t.Schema)] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// keyNames are the names of the keys of a backup.
func (comp completer) keyNames(ctx context.Context, cmd *cobra.Command, args []string) []string {
	c, b, closed := comp.backupNamed(ctx, cmd, args)
	if b == nil {
		return nil
	}
	defer closed()
	var names []string
	for w, err := range c.EachKey(ctx, b) {
		if err != nil {
			break
		}
		names = append(names, w.Name)
	}
	return names
}

// channelNames are the configured channels of notifications.
func (comp completer) channelNames(cmd *cobra.Command) []string {
	j, ok := comp.load(cmd)
	if !ok {
		return nil
	}
	var names []string
	for _, c := range j.cfg.Notifications.Channels {
		names = append(names, c.Name)
	}
	return names
}

// alertNames are the alerts that fire, as alerts list shows them, or the silences.
func (comp completer) alertNames(cmd *cobra.Command, silences bool) []string {
	j, ok := comp.load(cmd)
	if !ok {
		return nil
	}
	flag := func(name string) string {
		if f := cmd.Flags().Lookup(name); f != nil {
			return f.Value.String()
		}
		return ""
	}
	watched := newAlerts(j, flag("database"), flag("watch-state"))
	_, path, state, err := watched.open()
	if err != nil {
		return nil
	}
	var names []string
	if !silences {
		for _, a := range state.Alerts {
			if a.Phase == alert.Firing {
				names = append(names, a.Fingerprint[:min(len(a.Fingerprint), shownFingerprint)])
			}
		}
		slices.Sort(names)
		return names
	}
	answers, err := readAnswers(answersPath(path))
	if err != nil {
		return nil
	}
	for _, x := range answers.Current(comp.now()).Silences {
		names = append(names, x.ID)
	}
	return names
}
