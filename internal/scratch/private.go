package scratch

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
)

const (
	// spareDisk is what a server may use beyond what was recorded of its content: its
	// catalogue, its WAL, and the growth of small databases.
	spareDisk = 4 << 30
	// diskFactor is how much larger than recorded a copy may become.
	diskFactor = 3
)

// CageFor is a cage for a copy of content of which a size in bytes was recorded. The
// server may read the folders of those libraries that are named by an absolute path.
func CageFor(recorded int64, libraries []string) *Cage {
	bytes := uint64(max(recorded, 0))
	c := &Cage{DiskBytes: min(bytes, (math.MaxInt64-spareDisk)/diskFactor)*diskFactor + spareDisk}
	for _, library := range libraries {
		if filepath.IsAbs(library) {
			c.Readable = append(c.Readable, filepath.Dir(library))
		}
	}
	return c
}

// PrivateSettings are settings of a server of a major version that keep what is in it
// from acting on the world outside. It preloads the libraries; one that works in a
// single database gets the name of that.
func PrivateSettings(major int, preload []string, database string) map[string]string {
	settings := map[string]string{
		"shared_preload_libraries":        strings.Join(preload, ", "),
		"max_logical_replication_workers": "0",
		"max_wal_senders":                 "0",
		"archive_mode":                    "off",
		"archive_command":                 "",
	}
	if major >= 17 {
		settings["event_triggers"] = "off"
	}
	for _, library := range preload {
		if library == "pg_cron" { // its extension can be made in one database only
			settings["cron.database_name"] = database
			settings["cron.launch_active_jobs"] = "off"
		}
	}
	return settings
}

// SessionOptions are the options of a superuser's session with a copy, of a server of a
// major version: they override what the source's settings of roles and databases would
// have every session do. They are the keyword options of a connection.
func SessionOptions(major int) string {
	options := "-c default_transaction_read_only=off -c session_replication_role=replica -c session_preload_libraries= -c local_preload_libraries="
	if major >= 17 {
		options += " -c event_triggers=off"
	}
	return options
}

// takenName is the folder of what was taken out of the server.
const takenName = "taken"

// TakenDir makes a folder beside the cluster, which this process's user alone can enter
// and which goes with the server's folder. A server that has no user id of its own, and
// no wall of files, can enter it, too: what is put there must be sealed.
func (s *Server) TakenDir() (string, error) {
	if err := s.folder.root.Mkdir(takenName, 0o700); err != nil {
		return "", fmt.Errorf("make a folder for what is taken out of the scratch server: %w", err)
	}
	return filepath.Join(s.folder.path, takenName), nil
}
