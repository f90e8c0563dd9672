package main

import (
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

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show every setting with where it came from",
		Long: `Shows the settings that the other commands use here, and whether each comes from a
flag, the environment, the .env file, the configuration file or the defaults.
Secrets are hidden.`,
		Example: `  pgmedic config
  pgmedic config --json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.load(cmd); err != nil {
				return err
			}
			return a.printConfig(a.cfg.Effective())
		},
	}
	addConnection(cmd)
	addStore(cmd)
	return cmd
}

func (a *app) printConfig(values []config.Value) error {
	rows := make([]settingRow, 0, len(values))
	cells := make([][]string, 0, len(values))
	for _, v := range values {
		rows = append(rows, settingRow{Key: v.Key, Value: v.Value, Origin: v.Origin.String(), Env: v.Env, Secret: v.Secret})
		cells = append(cells, []string{v.Key, v.Origin.String(), v.Value})
	}
	if a.global.json {
		return a.printJSON(map[string]any{"settings": rows, "file": a.cfg.File, "env_file": a.cfg.EnvFile})
	}
	a.printf("%s", terminal.Table([]string{"SETTING", "FROM", "VALUE"}, cells, terminal.TableOptions{Color: a.paint(a.stdoutTTY).on}))
	return nil
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.global.json {
				return a.printJSON(map[string]string{"version": a.version})
			}
			a.printf("pgmedic %s\n", a.version)
			return nil
		},
	}
}
