package main

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/config"
)

// settingKey marks a flag that sets a value of the configuration.
const settingKey = "pgmedic-setting"

// addSetting adds a flag that overrides a key of the configuration. Its value
// is checked where the others are.
func addSetting(cmd *cobra.Command, name, key, usage string) {
	flags := cmd.Flags()
	if !cmd.HasParent() && cmd.Name() == "pgmedic" {
		flags = cmd.PersistentFlags()
	}
	flags.String(name, "", withDefault(key, usage))
	// It fails for an unknown flag only, and this one is there.
	_ = flags.SetAnnotation(name, settingKey, []string{key})
}

// addSwitch is addSetting for a setting that is true or false.
func addSwitch(cmd *cobra.Command, name, key, usage string) {
	cmd.Flags().Bool(name, false, usage)
	_ = cmd.Flags().SetAnnotation(name, settingKey, []string{key}) // as in addSetting
}

// addList is addSetting for a setting that is a list: the flag may be repeated.
func addList(cmd *cobra.Command, name, key, usage string) {
	cmd.Flags().StringArray(name, nil, usage+"; may be repeated")
	_ = cmd.Flags().SetAnnotation(name, settingKey, []string{key}) // as in addSetting
}

// withDefault adds to the words of a flag the default of its setting, where they say
// none.
func withDefault(key, usage string) string {
	if strings.Contains(usage, "default") {
		return usage
	}
	k, _ := config.KeyOf(key)
	if def := k.Default; def != "" && def != "0" && def != "0s" {
		usage += " (default: " + def + ")"
	}
	return usage
}

// durationFlag is a flag for a duration, written as in the configuration.
type durationFlag struct{ d *time.Duration }

func (f durationFlag) Set(text string) (err error) {
	*f.d, err = config.ParseDuration(text)
	return err
}

// String is empty for zero, so that help shows no default where there is none.
func (f durationFlag) String() string {
	if f.d == nil || *f.d == 0 {
		return ""
	}
	return f.d.String()
}

func (f durationFlag) Type() string { return "duration" }

var _ pflag.Value = durationFlag{}

// invalidValue says of a value that a flag can't have what it has to be, with an
// example; it returns nil for other errors.
func invalidValue(command string, err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return nil
	}
	what, hint := "what it takes", "see `"+command+" --help`"
	switch invalid.GetFlag().Value.Type() {
	case "duration":
		what, hint = "a duration", config.DurationHint
	case "int":
		what, hint = "a whole number", "write it as --"+invalid.GetFlag().Name+" 10, say"
	case "rate":
		what, hint = "a number of bytes a second from 32k to 1G", "write it as --"+invalid.GetFlag().Name+" 50M, say"
	case "bool":
		what, hint = "true or false", "leave the value out: the flag alone means true"
	}
	return pgmedic.Errorf(pgmedic.KindUsage, hint, "%s: --%s: %s is not %s", command, invalid.GetFlag().Name, strconv.Quote(shorten(invalid.GetValue())), what)
}

// shorten keeps a value that somebody pasted into the wrong place off the screen.
func shorten(text string) string {
	const most = 20
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}
