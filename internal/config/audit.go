package config

import (
	"path/filepath"
	"strings"

	"github.com/pgmedic/pgmedic"
)

// Audit says where it is recorded who did what.
type Audit struct {
	// File is an absolute path, empty for the usual place, or off.
	File    string   `yaml:"file" env:"PGMEDIC_AUDIT_FILE" rule:"path or off" doc:"File of the audit log; off keeps none. Empty: pgmedic/audit.jsonl in XDG_STATE_HOME, else /var/lib/pgmedic/audit.jsonl for root, else in ~/.local/state."`
	KeyFile string   `yaml:"key_file" env:"PGMEDIC_AUDIT_KEY_FILE" path:"true" doc:"File of the key that authenticates the audit log; made with the log. Empty: audit.key beside the log. Keep a copy of it elsewhere."`
	Keep    string   `yaml:"keep" env:"PGMEDIC_AUDIT_KEEP" rule:"length" default:"6y" doc:"How long a month of the audit log is kept; 0 keeps all."`
	Forward []string `yaml:"forward" env:"PGMEDIC_AUDIT_FORWARD" rule:"words" doc:"Where each record is sent, too: syslog, syslog:/path/of/socket, file:/path, stderr, or webhook:NAME, a channel of notifications. In the environment, separate them with commas."`
}

// AuditOff is the value of audit.file that keeps no log.
const AuditOff = "off"

// KeepLength returns Keep.
func (a Audit) KeepLength() pgmedic.Length {
	l, err := pgmedic.ParseLength(a.Keep)
	if err != nil {
		return pgmedic.Length{} // it was checked
	}
	return l
}

// checkAudit refuses places to forward to that this version doesn't know.
func (c *Config) checkAudit() error {
	const key = "audit.forward"
	for _, to := range c.Audit.Forward {
		kind, path, named := strings.Cut(to, ":")
		switch {
		case to == "stderr":
		case kind == "syslog" && (!named || filepath.IsAbs(path)):
		case kind == "file" && filepath.IsAbs(path):
		case kind == "webhook" && path != "":
		default:
			return usage(c.origins[key].subject(key)+" has a place that records can't be forwarded to",
				"use stderr, syslog, syslog:/path/of/socket, file:/path or webhook:NAME, with absolute paths; `pgmedic audit show --json` feeds other programs")
		}
	}
	return nil
}
