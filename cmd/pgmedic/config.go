package main

import (
	"context"

	"charm.land/lipgloss/v2"
	"github.com/spf13/cobra"

	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/terminal"
)

// settingRow is one setting in the JSON of pgmedic config.
type settingRow struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin string `json:"origin"`
	Env    string `json:"env,omitempty"`
	Secret bool   `json:"secret,omitempty"`
}

// configCommand shows the settings.
type configCommand struct{ job }

func configCLI(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show every setting and where it comes from",
		Long: `Shows the settings that the other commands use here, and whether each comes from a
flag, the environment, the .env file, the configuration file or the defaults.
Secrets are hidden, and those that are kept elsewhere are not read.`,
		Example: `  pgmedic config
  pgmedic config --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := e.load(cmd)
			if err != nil {
				return err
			}
			command := &configCommand{job: j}
			return command.run(cmd.Context())
		},
	}
	addConnection(cmd)
	addStore(cmd)
	withoutSecrets(cmd)
	return cmd
}

func (cmd *configCommand) run(context.Context) error {
	if err := cmd.cfg.CheckNotifications(); err != nil {
		return err
	}
	return cmd.print(cmd.cfg.Effective())
}

func (cmd *configCommand) print(values []config.Value) error {
	rows := make([]settingRow, 0, len(values))
	cells := make([][]string, 0, len(values))
	for _, v := range values {
		rows = append(rows, settingRow{Key: v.Key, Value: v.Value, Origin: v.Origin.String(), Env: v.Env, Secret: v.Secret})
		cells = append(cells, []string{v.Key, v.Origin.String(), v.Value})
	}
	if cmd.global.json {
		return cmd.printJSON(map[string]any{"settings": rows, "file": cmd.cfg.File, "env_file": cmd.cfg.EnvFile})
	}
	headers, o := []string{"SETTING", "FROM", "VALUE"}, terminal.TableOptions{Shrink: []int{1}}
	if cmd.stdoutTTY {
		o.Width = cmd.stdoutWidth()
	}
	// A value is whole: it is below its name where a terminal has no room beside it.
	for room := longestBeside; room > 0 && !terminal.Fits(headers, cells, o); room /= 2 {
		if o.Below == nil {
			o.Below = make([]string, len(cells))
		}
		for i, row := range cells {
			if lipgloss.Width(row[2]) > room {
				o.Below[i], row[2] = cmd.value(row[2]), ""
			}
		}
	}
	o.Move = []int{2}
	printTable(cmd.env, headers, cells, o)
	return nil
}

// longestBeside is the widest value that stays beside its setting where not all fit.
const longestBeside = 64
