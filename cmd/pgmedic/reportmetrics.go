package main

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/render/prometheus"
)

// reportSections checks what --section names; nil is all.
func (cmd *reportCommand) reportSections() ([]string, error) {
	sections, err := reading.ParseSections(cmd.flags.sections)
	if err != nil {
		return nil, err
	}
	if slices.Contains(sections, reading.SectionWaits) && cmd.flags.interval == 0 && cmd.flags.input == "" {
		return nil, pgmedic.Errorf(pgmedic.KindUsage, "add --interval 10s", "--section waits without --interval: waits are sampled over a time")
	}
	return sections, nil
}

// metricsOptions name the server in metrics as it is named when it doesn't
// answer: as the configuration does, else by its address. A reading from a file
// can be of any server, and has its own name.
func (cmd *reportCommand) metricsOptions() prometheus.Options {
	opts := prometheus.Options{Version: cmd.version}
	if cmd.flags.input != "" {
		return opts
	}
	if opts.Server = cmd.cfg.Server; opts.Server != "" {
		return opts
	}
	t, err := cmd.servers.target()
	if err != nil {
		return opts
	}
	// Read for its address and not connected with.
	if cfg, err := pgx.ParseConfig(t.Conninfo()); err == nil {
		opts.Server = net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
	}
	return opts
}

// writeDown writes metrics that say that the server could not be looked at, in
// the place of those that an earlier look wrote: numbers of yesterday would look
// like today's. Without a database to name, and after an interrupt, nothing is
// known, and nothing is written.
func (cmd *reportCommand) writeDown(ctx context.Context, cause error) error {
	named := ""
	if len(cmd.args) > 0 {
		named = cmd.args[0]
	}
	database := ""
	if t, err := cmd.servers.databaseTarget(named); err == nil {
		database = databaseName(t)
	}
	if database == "" || pgmedic.KindOf(cause) == pgmedic.KindInterrupted {
		return nil
	}
	var b bytes.Buffer
	if err := prometheus.WriteDown(&b, database, cmd.metricsOptions()); err != nil {
		return err
	}
	return cmd.deliverReport(ctx, b.Bytes())
}
