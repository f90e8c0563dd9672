package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/recovery"
	"github.com/pgmedic/pgmedic/internal/words"
)

// recoveryCommand is the restore_command of a restored cluster: this program with the
// configuration that is in force, of which only what is secret is left out. That stays
// where it is, in the files; what came from the environment must be in the server's.
func (cmd *clusterCommand) recoveryCommand() (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("write restore_command: %w", err)
	}
	var command []string
	var secrets []string
	for _, v := range cmd.cfg.Effective() {
		if !forRecovery(v) {
			continue
		}
		switch {
		case v.Secret && v.Origin.Source == config.SourceEnvironment:
			secrets = append(secrets, v.Origin.Name)
		case v.Secret:
		case v.Key == "backup.dir" || v.Key == "backup.store":
			if dir := cmd.cfg.Backup.Place().Dir; dir != "" { // the command runs in the data folder
				v.Value = cmd.absolute(dir, "")
			}
			command = append(command, v.Env+"="+shellQuote(v.Value))
		case v.Key == "backup.recipients":
			command = append(command, v.Env+"="+shellQuote(strings.Join(cmd.cfg.Backup.Recipients, ",")))
		case v.Key == "backup.trusted_signers":
			command = append(command, v.Env+"="+shellQuote(strings.Join(cmd.cfg.Backup.TrustedSigners, ",")))
		default:
			command = append(command, v.Env+"="+shellQuote(v.Value))
		}
	}
	if cmd.cfg.Backup.Place().Cloud != "" {
		secrets = append(secrets, cmd.cloudVariables()...)
	}
	if len(secrets) > 0 {
		cmd.log.Warn("restore_command needs what is in the environment of this run alone: put it into the configuration, or into the environment of the server", "variables", strings.Join(secrets, " "))
	}
	command = append(command, shellQuote(program), "wal", "fetch")
	if cmd.cfg.File != "" {
		command = append(command, "--config", shellQuote(cmd.absolute(cmd.cfg.File, "")))
	}
	if cmd.cfg.EnvFile != "" {
		command = append(command, "--env-file", shellQuote(cmd.absolute(cmd.cfg.EnvFile, "")))
	}
	text := strings.ReplaceAll(strings.Join(command, " "), "%", "%%")
	// PostgreSQL runs it in the data folder.
	return text + " --plan " + recovery.FileName + " %f %p; r=$?; [ $r -le 1 ] || r=255; exit $r", nil
}

// cloudVariables are those of this run's environment in which programs of clouds find
// credentials.
func (cmd *clusterCommand) cloudVariables() (names []string) {
	for _, kv := range cmd.environ {
		name, _, _ := strings.Cut(kv, "=")
		for _, prefix := range []string{"AWS_", "AZURE_", "GOOGLE_"} {
			if strings.HasPrefix(name, prefix) {
				names = append(names, name)
			}
		}
	}
	return names
}

// forRecovery reports whether a setting is one of those that fetching WAL uses, and was
// given for this run alone.
func forRecovery(v config.Value) bool {
	if v.Env == "" || v.Origin.Source != config.SourceEnvironment && v.Origin.Source != config.SourceFlag {
		return false
	}
	for _, section := range []string{"backup.s3.", "backup.sftp."} {
		if strings.HasPrefix(v.Key, section) {
			return true
		}
	}
	return slices.Contains([]string{
		"backup.dir", "backup.store", "backup.recipients", "backup.encryption_key", "backup.identity_files",
		"backup.allow_unencrypted", "backup.trusted_signers", "backup.allow_unsigned",
	}, v.Key)
}

// shellQuote quotes a word for a POSIX shell.
func shellQuote(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:@") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(words.OneLine(word), "'", `'\''`) + "'"
}
