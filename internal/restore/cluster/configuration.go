package cluster

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pgmedic/pgmedic/internal/pgconf"
	"github.com/pgmedic/pgmedic/internal/physical"
	"github.com/pgmedic/pgmedic/internal/sqltext"
	"github.com/pgmedic/pgmedic/internal/words"
)

// Configuration is what the settings of the server that was backed up mean for one that is
// started on the restored files. Settings in files outside of the data folder are not in it.
type Configuration struct {
	// SetAside are those that the restored cluster does not have, because they would keep it
	// from working or have it write to what belongs to the old server.
	SetAside []SetAside `json:"set_aside,omitempty"`
	// Concerns are what may keep the server from starting here, or what it does once it is
	// started: a sentence each.
	Concerns []string `json:"concerns,omitempty"`
	// Preload are the libraries without which the server does not start. LibraryPath is where
	// it looks for them, if its own settings say so.
	Preload     []string `json:"preload,omitempty"`
	LibraryPath string   `json:"library_path,omitempty"`
	// ListenAddresses and Port are where clients, and standbys of the old server, can reach it.
	ListenAddresses string `json:"listen_addresses,omitempty"`
	Port            string `json:"port,omitempty"`
	// Unread is why the settings are not known, if they are not.
	Unread string `json:"unread,omitempty"`

	files []string
	more  map[string]string
}

// SetAside is a setting that the restored cluster does not have.
type SetAside struct {
	Name string `json:"name"`
	// Value is what it was; empty where it is not known, or was the default.
	Value string `json:"value,omitempty"`
	Why   string `json:"why"`
	// Undo is how it comes back: SQL, or what is to be done with a file. With Restart it takes
	// effect once the server is started again.
	Undo    string `json:"undo"`
	Restart bool   `json:"restart,omitempty"`
}

const (
	// maxConfigBytes and maxConfigFiles bound which files are read as files of settings.
	maxConfigBytes = 1 << 20
	maxConfigFiles = 1000
)

// heldFile is a file of the list, with the chunks that it needs.
type heldFile struct {
	file   *physical.File
	chunks map[int64]physical.Chunk
}

// mayBeConfig reports whether a file is held as one of settings: those beside postgresql.conf, and
// in folders those that are called so.
func mayBeConfig(f *physical.File) bool {
	return f.Kind != physical.KindFolder && f.SizeBytes <= maxConfigBytes && !skipped(f.Path) && (!strings.Contains(f.Path, "/") || strings.HasSuffix(f.Path, ".conf"))
}

// hold remembers a file of settings with its chunks, of all that the list had up to it.
func (l *listed) hold(f *physical.File, chunks map[int64]physical.Chunk) {
	if !mayBeConfig(f) || len(l.config) >= maxConfigFiles && f.Path != pgconf.MainFile && f.Path != pgconf.AutoFile {
		return
	}
	held := heldFile{file: f, chunks: map[int64]physical.Chunk{}}
	for _, e := range f.Extents {
		if c, ok := chunks[e.Chunk]; ok {
			held.chunks[e.Chunk] = c
		}
	}
	l.config[f.Path] = held
}

// readConfiguration reads the files of settings of the backup. Damage of them is not said here:
// the restore finds it, too.
func (r *restore) readConfiguration(ctx context.Context) (Configuration, error) {
	chunks := r.Source.Chunks()
	defer chunks.Close()
	var failed error
	texts := map[string]string{}
	open := func(name string) (string, bool) {
		held, ok := r.listed.config[name]
		if !ok {
			return "", false
		}
		if text, ok := texts[name]; ok {
			return text, true
		}
		text, err := held.text(ctx, chunks)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("read %s: %w", name, err))
			return "", false
		}
		texts[name] = text
		return text, true
	}
	conf := pgconf.Read(open, func(dir string) (names []string) {
		for name := range r.listed.config {
			if path.Dir(name) == dir {
				names = append(names, path.Base(name))
			}
		}
		return names
	})
	if ctx.Err() != nil {
		return Configuration{}, context.Cause(ctx)
	}
	if _, held := r.listed.config[pgconf.MainFile]; r.listed.configured && !held {
		failed = errors.Join(failed, fmt.Errorf("%s is larger than %s", pgconf.MainFile, words.Bytes(maxConfigBytes)))
	}
	c := judge(conf, r.Plan.Major, exists)
	if failed != nil {
		c.Unread = "the files of settings in the backup can't be read: " + failed.Error()
	}
	return c, nil
}

// text returns the bytes of a file.
func (h heldFile) text(ctx context.Context, chunks *physical.Chunks) (string, error) {
	var b strings.Builder
	for _, e := range h.file.Extents {
		if e.Chunk == physical.Hole {
			b.WriteString(strings.Repeat("\x00", int(e.Bytes))) // at most maxConfigBytes
			continue
		}
		plain, err := chunks.Read(ctx, h.chunks[e.Chunk])
		if err != nil {
			return "", err
		}
		if e.Offset+e.Bytes > int64(len(plain)) {
			return "", physical.Damaged("%.80q has bytes outside of chunk %d", h.file.Path, e.Chunk)
		}
		b.Write(plain[e.Offset : e.Offset+e.Bytes])
	}
	return b.String(), nil
}

// asides are the settings that a restored cluster must not have from the old server, and the
// values that it has instead. They are set whether a file has them or not: it may be one outside
// of the data folder.
func asides(major int) map[string]string {
	all := map[string]string{"archive_mode": "off", syncNames: "", applyWorkers: "0"}
	if major >= 17 {
		all[syncSlots] = ""
	}
	return all
}

const (
	syncNames    = "synchronous_standby_names"
	syncSlots    = "synchronized_standby_slots"
	applyWorkers = "max_logical_replication_workers"
)

// judge says what settings mean for a restored cluster. It is pure, but for exists, which
// reports whether a file is on this machine.
func judge(s *pgconf.Settings, major int, exists func(string) bool) Configuration {
	c := Configuration{files: s.Files, more: asides(major), LibraryPath: s.Value("dynamic_library_path")}
	c.SetAside = setAside(s, major)
	c.Preload = s.List("shared_preload_libraries")
	if len(s.Files) == 0 {
		return c
	}
	if slices.Contains(s.Files, pgconf.MainFile) {
		c.ListenAddresses, c.Port = "localhost", "5432" // PostgreSQL's defaults
		if v, ok := s.Get("listen_addresses"); ok {
			c.ListenAddresses = v.Value
		}
		if v, ok := s.Get("port"); ok {
			c.Port = v.Value
		}
	}
	c.Concerns = concerns(s, exists)
	return c
}

// setAside are the settings of the old server that are not in force, with how they come back. A
// setting that may be in a file outside of the data folder is among them, without its value.
func setAside(s *pgconf.Settings, major int) (all []SetAside) {
	const reload = " SELECT pg_catalog.pg_reload_conf();"
	set := func(name, value string) string {
		return "ALTER SYSTEM SET " + name + " = " + sqltext.QuoteLiteral(value) + ";"
	}
	whole := slices.Contains(s.Files, pgconf.MainFile) && len(s.Unread) == 0
	add := func(name, why, after string, restart bool) {
		switch v, ok := s.Get(name); {
		case v.Value != "":
			all = append(all, SetAside{Name: name, Value: v.Value, Why: why, Undo: set(name, v.Value) + after, Restart: restart})
		case !ok && !whole:
			all = append(all, SetAside{
				Name: name, Why: "a file that is not in the backup may set it, and " + why, Undo: "ALTER SYSTEM RESET " + name + ";" + after, Restart: restart,
			})
		}
	}
	add(syncNames, "every commit would wait until standbys follow this cluster", reload, false)
	if major >= 17 {
		add(syncSlots, "logical replication would wait for slots that this cluster does not have", reload, false)
	}
	if on, known := s.Bool("archive_mode"); on || !known { // or always
		add("archive_mode", "it would archive under the name of the old server", "", true)
	}
	// WAL can have subscriptions that the files of the backup have not, so that this is always set.
	workers := SetAside{
		Name: applyWorkers, Value: s.Value(applyWorkers), Undo: "ALTER SYSTEM RESET " + applyWorkers + ";", Restart: true,
		Why: "subscriptions, if there are any, would take changes from the publishers that the old server still needs",
	}
	if workers.Value != "" {
		workers.Undo = set(applyWorkers, workers.Value)
	}
	all = append(all, workers)
	for _, name := range []string{"external_pid_file", "stats_temp_directory"} {
		if v, ok := s.Get(name); ok && v.Value != "" && path.IsAbs(v.Value) {
			all = append(all, SetAside{
				Name: name, Value: v.Value, Why: "a server that runs here already may write there", Restart: true,
				Undo: "remove \"# pgmedic:\" before " + name + " in " + v.File,
			})
		}
	}
	return all
}

// concerns are what may keep the server from starting, or what it does when it is started.
func concerns(s *pgconf.Settings, exists func(string) bool) (all []string) {
	say := func(format string, a ...any) { all = append(all, fmt.Sprintf(format, a...)) }
	for _, i := range s.Unread {
		switch {
		case i.Optional && (!path.IsAbs(i.Path) || !exists(i.Path)):
		case path.IsAbs(i.Path) && exists(i.Path):
			say("%s includes %s, which is not in the backup: the server reads what is there now", i.File, i.Path)
		default:
			say("%s includes %s, which is not among the files of settings in the backup: see that it is there before the server is started", i.File, i.Path)
		}
	}
	for _, name := range []string{"hba_file", "ident_file"} {
		switch v := s.Value(name); {
		case !path.IsAbs(v):
		case exists(v):
			say("%s is %s: the server reads that file, and not the one in its folder", name, v)
		default:
			say("%s is %s, which does not exist here: the server does not start without it", name, v)
		}
	}
	if on, _ := s.Bool("ssl"); on {
		for _, name := range []string{"ssl_cert_file", "ssl_key_file", "ssl_ca_file", "ssl_crl_file", "ssl_dh_params_file"} {
			if v := s.Value(name); path.IsAbs(v) && !exists(v) {
				say("%s is %s, which does not exist here: put it there, or set ssl to off, before the server is started", name, v)
			}
		}
	}
	if on, known := s.Bool("huge_pages"); known && on {
		say("huge_pages is on: the server does not start if the kernel has too few of them")
	}
	if on, _ := s.Bool("logging_collector"); on && path.IsAbs(s.Value("log_directory")) {
		say("log_directory is %s: the server writes its log there, also if that is where another one writes its own", s.Value("log_directory"))
	}
	for _, name := range []string{"session_preload_libraries", "local_preload_libraries"} {
		if libraries := s.List(name); len(libraries) > 0 {
			say("%s is %s: nothing can connect if one of them is not installed", name, strings.Join(libraries, ", "))
		}
	}
	if slices.Contains(s.List("shared_preload_libraries"), "pg_cron") {
		say("pg_cron runs its jobs as soon as the server is open: set cron.launch_active_jobs to off before it is started if they must not run twice")
	}
	return all
}
