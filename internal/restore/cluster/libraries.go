package cluster

import (
	"os"
	"path/filepath"
	"strings"
)

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// MissingLibraries returns those of a configuration's libraries to preload that the PostgreSQL
// whose programs are in a folder does not have, and false where that is not known: its folder of
// libraries is not found by the programs', or the settings name another.
func (c Configuration) MissingLibraries(binDir string) (missing []string, known bool) {
	if c.LibraryPath != "" {
		return nil, false
	}
	dir := libraryDir(binDir)
	if dir == "" {
		return nil, false
	}
	for _, name := range c.Preload {
		file := strings.Replace(name, "$libdir", dir, 1)
		switch {
		case filepath.IsAbs(file):
		case strings.Contains(file, "/"):
			return nil, false // from where it is relative to is the server's business
		default:
			file = filepath.Join(dir, file)
		}
		if !exists(file) && !exists(file+".so") && !exists(file+".dylib") {
			missing = append(missing, name)
		}
	}
	return missing, true
}

// libraryDir finds PostgreSQL's folder of libraries beside that of its programs, by the library
// that every PostgreSQL has; empty where it is not found.
func libraryDir(binDir string) string {
	programs, err := filepath.EvalSymlinks(binDir)
	if err != nil {
		return ""
	}
	for _, lib := range []string{"lib", "lib/postgresql", "lib64", "lib64/pgsql", "lib/pgsql"} {
		dir := filepath.Join(filepath.Dir(programs), lib)
		if exists(filepath.Join(dir, "plpgsql.so")) || exists(filepath.Join(dir, "plpgsql.dylib")) {
			return dir
		}
	}
	return ""
}
