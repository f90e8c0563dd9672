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
	"github.com/pgmedic/pgmedic/internal/backup"
	"github.com/pgmedic/pgmedic/internal/catalog"
	"github.com/pgmedic/pgmedic/internal/config"
	"github.com/pgmedic/pgmedic/internal/seal"
	"github.com/pgmedic/pgmedic/internal/words"
)

// checkSettings says where settings come from, and which of them do nothing here.
func (a *app) checkSettings(l *checklist) {
	var from []string
	for _, file := range []string{a.cfg.File, a.cfg.EnvFile} {
		if file != "" {
			from = append(from, file)
		}
	}
	if n := a.fromEnvironment(); n > 0 {
		from = append(from, count(n, "environment variable"))
	}
	switch {
	case a.cfg.File == "" && len(from) == 0:
		l.ok("settings", "defaults only: no configuration file, no .env; `pgmedic init` writes one")
	case a.cfg.File == "":
		l.ok("settings", "%s; no pgmedic.yaml", strings.Join(from, ", "))
	default:
		l.ok("settings", "%s", strings.Join(from, ", "))
	}
	for _, u := range a.cfg.Unheeded() {
		l.add("not done", pgmedic.OutcomeWarn, u.Text, u.Hint)
	}
	if names := a.cfg.PoolNames(); len(names) > 0 {
		l.add("not used", pgmedic.OutcomeSkipped, strings.Join(names, ", "), "these set up the Go library of docs/pool.md; no command reads them")
	}
	for _, m := range a.cfg.Report.Mute {
		if !m.Until.After(a.now()) {
			l.add("mute", pgmedic.OutcomeWarn, fmt.Sprintf("the mute of %s ended on %s: the report shows it again", m.Finding, m.Until.AddDate(0, 0, -1).Format("2006-01-02")),
				"take it out of report.mute, or set a new until")
		}
	}
	a.checkSecretsFile(l)
}

// fromEnvironment counts the settings that the process's environment gives.
func (a *app) fromEnvironment() (n int) {
	for _, v := range a.cfg.Effective() {
		if v.Origin.Source == config.SourceEnvironment || v.Origin.Source == config.SourceLibpq {
			n++
		}
	}
	return n
}

// checkSecretsFile warns of files with secrets in them that others may read.
func (a *app) checkSecretsFile(l *checklist) {
	if runtime.GOOS == "windows" {
		return
	}
	for _, file := range []struct {
		path   string
		source config.Source
	}{{a.cfg.File, config.SourceFile}, {a.cfg.EnvFile, config.SourceEnvFile}} {
		secret := slices.ContainsFunc(a.cfg.Effective(), func(v config.Value) bool { return v.Secret && v.Origin.Source == file.source })
		info, err := os.Stat(file.path)
		if !secret || err != nil || info.Mode().Perm()&0o044 == 0 {
			continue
		}
		l.add("secrets", pgmedic.OutcomeWarn, fmt.Sprintf("others on this host may read %s, which holds secrets (mode %04o)", file.path, info.Mode().Perm()),
			"chmod 600 "+file.path)
	}
}

// checkMutes refuses mutes of findings that do not exist: they would silence nothing.
func (a *app) checkMutes() error {
	if len(a.cfg.Report.Mute) == 0 {
		return nil
	}
	sections := findingSections(findingsPage())
	for _, m := range a.cfg.Report.Mute {
		if !slices.ContainsFunc(sections, func(s findingSection) bool { return s.ID == m.Finding }) {
			return fmt.Errorf("report.mute (%s): %w", a.cfg.Origin("report.mute"), unknownFinding(m.Finding, sections))
		}
	}
	return nil
}

// weakPassphrase is how many characters a passphrase has that can be guessed, where
// somebody has a copy of the store and time.
const weakPassphrase = 16

// checkEncryption says whether backups are encrypted and who can read them.
func (a *app) checkEncryption(l *checklist) {
	if n := len(a.cfg.Backup.EncryptionKey.Reveal()); n > 0 && n < weakPassphrase {
		l.add("passphrase", pgmedic.OutcomeWarn, fmt.Sprintf("backup.encryption_key has fewer than %d characters: anyone with a copy of the store can try many", weakPassphrase),
			"use a random one (openssl rand -base64 24), or a key pair (`pgmedic init`)")
	}
	if a.seal.Encryption == seal.EncryptionAES256CBC {
		l.ok("encryption", "%s with a passphrase; this host can read its backups", a.seal.Encryption)
		return
	}
	if len(a.wraps) == 0 {
		l.add("encryption", pgmedic.OutcomeWarn, "backups are stored as they are: anyone who reads the store reads the data",
			"set backup.recipients; `pgmedic init` makes the keys")
		return
	}
	ways := "age, " + count(len(a.wraps), "key") + " can open each"
	ids, err := a.identities()
	switch {
	case err != nil:
		l.fail("encryption", err)
	case len(ids) == 0:
		l.ok("encryption", "%s; this host cannot read its backups: drill them on one that has a key", ways)
	case !opensOne(ids, a.wraps):
		l.fail("encryption", pgmedic.Errorf(pgmedic.KindUsage,
			"put the public half of a key of this host into backup.recipients, or the right file into backup.identity_files",
			"%s, and none of this host's %s: drills and restores of its own backups would fail", ways, count(len(ids), "key")))
	default:
		l.ok("encryption", "%s; this host can read its backups", ways)
	}
}

// opensOne reports whether one of the identities opens one of the wraps.
func opensOne(ids []age.Identity, wraps []backup.Wrap) bool {
	names := ownNames(ids)
	return slices.ContainsFunc(wraps, func(w backup.Wrap) bool { return slices.Contains(names, w.Name) })
}

// checkNewest opens the newest backup of the store with this host's keys, which is
// the first thing that a drill and a restore do.
func (a *app) checkNewest(ctx context.Context, l *checklist, c *catalog.Catalog, listing catalog.Listing) {
	if len(listing.Entries) == 0 {
		return
	}
	e := listing.Entries[0]
	open := e.Backup.Seal.Encryption == string(seal.EncryptionNone)
	_, key, err := a.wholeBackup(ctx, c, e)
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

// count writes a number of things, the plural with an s.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
