package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"

	"filippo.io/age"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// checkSettings says where settings come from, and which of them do nothing here.
func (cmd *checkCommand) checkSettings(l *checklist) {
	var from []string
	for _, file := range []string{cmd.cfg.File, cmd.cfg.EnvFile} {
		if file != "" {
			from = append(from, file)
		}
	}
	if n := cmd.fromEnvironment(); n > 0 {
		from = append(from, words.Plural(n, "environment variable"))
	}
	switch {
	case cmd.cfg.File == "" && len(from) == 0:
		l.ok("settings", "defaults only: no configuration file, no .env; `pgmedic init` writes one")
	case cmd.cfg.File == "":
		l.ok("settings", "%s; no pgmedic.yaml", strings.Join(from, ", "))
	default:
		l.ok("settings", "%s", strings.Join(from, ", "))
	}
	if names := cmd.cfg.PoolNames(); len(names) > 0 {
		l.add("not used", pgmedic.OutcomeSkipped, strings.Join(names, ", "), "these set up the Go library of docs/pool.md; no command reads them")
	}
	for _, m := range cmd.cfg.Report.Mute {
		if !m.Until.After(cmd.now()) {
			l.add("mute", pgmedic.OutcomeWarn, fmt.Sprintf("the mute of %s ended on %s: the report shows it again", m.Finding, m.Until.AddDate(0, 0, -1).Format("2006-01-02")),
				"take it out of report.mute, or set a new until")
		}
	}
	cmd.checkSecretsFile(l)
}

// fromEnvironment counts the settings that the process's environment gives.
func (cmd *checkCommand) fromEnvironment() (n int) {
	for _, v := range cmd.cfg.Effective() {
		if v.Origin.Source == config.SourceEnvironment || v.Origin.Source == config.SourceLibpq {
			n++
		}
	}
	return n
}

// checkSecretsFile warns of files with secrets in them that others may read.
func (cmd *checkCommand) checkSecretsFile(l *checklist) {
	for _, file := range []struct {
		path   string
		source config.Source
	}{{cmd.cfg.File, config.SourceFile}, {cmd.cfg.EnvFile, config.SourceEnvFile}} {
		secret := slices.ContainsFunc(cmd.cfg.Effective(), func(v config.Value) bool { return v.Secret && v.Origin.Source == file.source && !cmd.cfg.Kept(v.Key) })
		mode, open := othersRead(file.path)
		if !secret || !open {
			continue
		}
		l.add("secrets", pgmedic.OutcomeWarn, fmt.Sprintf("others on this host may read %s, which holds secrets (mode %04o)", file.path, mode),
			"chmod 600 "+file.path)
	}
}

// othersRead reports whether others than its owner may read a file, and its mode.
func othersRead(path string) (mode os.FileMode, open bool) {
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS == "windows" {
		return 0, false
	}
	return info.Mode().Perm(), info.Mode().Perm()&0o044 != 0
}

// checkMutes refuses mutes of findings that do not exist: they would silence nothing.
func checkMutes(cfg *config.Config) error {
	if len(cfg.Report.Mute) == 0 {
		return nil
	}
	sections := findingSections(findingsPage())
	for _, m := range cfg.Report.Mute {
		if !slices.ContainsFunc(sections, func(s findingSection) bool { return s.ID == m.Finding }) {
			return fmt.Errorf("report.mute (%s): %w", cfg.Origin("report.mute"), unknownFinding(m.Finding, sections))
		}
	}
	return nil
}

// weakPassphrase is how many characters a passphrase has that can be guessed, where
// somebody has a copy of the store and time.
const weakPassphrase = 16

// checkEncryption says whether backups are encrypted and who can read them.
func (cmd *checkCommand) checkEncryption(l *checklist, how sealing) {
	if n := len(cmd.cfg.Backup.EncryptionKey.Reveal()); n > 0 && n < weakPassphrase {
		l.add("passphrase", pgmedic.OutcomeWarn, fmt.Sprintf("backup.encryption_key has fewer than %d characters: anyone with a copy of the store can try many", weakPassphrase),
			"use a random one (openssl rand -base64 24), or a key pair (`pgmedic init`)")
	}
	if how.options.Encryption == seal.EncryptionAES256CBC {
		l.ok("encryption", "%s with a passphrase; this host can read its backups", how.options.Encryption)
		return
	}
	if len(how.wraps) == 0 {
		l.add("encryption", pgmedic.OutcomeWarn, "backups are stored as they are: anyone who reads the store reads the data",
			"set backup.recipients; `pgmedic init` makes the keys")
		return
	}
	ways := "age, " + words.Plural(len(how.wraps), "key") + " can open each"
	ids, err := cmd.keys.identities()
	switch {
	case err != nil:
		l.fail("encryption", err)
	case len(ids) == 0:
		l.ok("encryption", "%s; this host cannot read its backups: drill them on one that has a key", ways)
	case !opensOne(ids, how.wraps):
		l.fail("encryption", pgmedic.Errorf(pgmedic.KindUsage,
			"put the public half of a key of this host into backup.recipients, or the right file into backup.identity_files",
			"%s, and none of this host's %s: drills and restores of its own backups would fail", ways, words.Plural(len(ids), "key")))
	default:
		l.ok("encryption", "%s; this host can read its backups", ways)
	}
}

// opensOne reports whether one of the identities opens one of the wraps.
func opensOne(ids []age.Identity, wraps []seal.Wrap) bool {
	names := ownNames(ids)
	return slices.ContainsFunc(wraps, func(w seal.Wrap) bool { return slices.Contains(names, w.Name) })
}

// checkNewest opens the newest backup of the store with this host's keys, which is
// the first thing that a drill and a restore do.
func (cmd *checkCommand) checkNewest(ctx context.Context, l *checklist, c *catalog.Catalog, listing catalog.Listing) {
	if len(listing.Entries) == 0 {
		return
	}
	e := listing.Entries[0]
	open := e.Backup.Seal.Encryption == string(seal.EncryptionNone)
	_, key, err := cmd.keys.wholeBackup(ctx, c, e)
	switch {
	case err != nil && (open || pgmedic.KindOf(err) == pgmedic.KindUsage): // tonight's may be another matter
		l.add("newest backup", pgmedic.OutcomeWarn, words.OneLine(err.Error()), pgmedic.HintOf(err))
	case err != nil:
		l.fail("newest backup", err)
	case open:
		l.ok("newest backup", "%s is not encrypted; its rows were not read: pgmedic drill", e.Backup.ID)
	case key == nil:
		l.add("newest backup", pgmedic.OutcomeSkipped, e.Backup.ID+" is encrypted, and this host has no key to try", "")
	default:
		l.ok("newest backup", "a key of this host opens %s; its rows were not read: pgmedic drill", e.Backup.ID)
	}
}
