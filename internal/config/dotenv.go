package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/joho/godotenv"

	"github.com/pgmedic/pgmedic/internal/hidden"
)

// readEnvFile finds and reads the .env file.
func (l *loader) readEnvFile(name string) error {
	l.envName = name
	if name == "" {
		l.envName = ".env"
		dir := l.dir
		if l.file != "" {
			dir = filepath.Dir(l.file)
		}
		name = filepath.Join(dir, ".env")
		if !isFile(name) {
			return nil
		}
	}
	path := l.abs(name)
	data, _, err := hidden.ReadFile(path, maxFileBytes)
	if err != nil {
		return usage(fmt.Sprintf("%s: can't be read: %v", l.envName, err), "check the path and that this user may read it")
	}
	data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
	values, err := godotenv.UnmarshalBytes(data)
	if err != nil {
		// The library's text quotes the line, secrets and all.
		return usage(fmt.Sprintf("%s:%d: is not NAME=value", l.envName, badLine(data)),
			"write one NAME=value a line, and put values with special characters in 'quotes'")
	}
	l.envFile, l.dotenv = path, values
	l.dollarWarnings(data)
	return nil
}

// badLine returns the line after the longest beginning that can be read.
func badLine(data []byte) int {
	lines := strings.SplitAfter(string(data), "\n")
	good, end := 0, 0
	for i, line := range lines {
		end += len(line)
		if _, err := godotenv.UnmarshalBytes(data[:end]); err == nil {
			good = i + 1
		}
	}
	return min(good+1, len(lines))
}

// dollarWarnings warns about secrets that changed because $NAME in them was
// replaced, as in a shell. It reads the file again with another sign for $.
func (l *loader) dollarWarnings(data []byte) {
	const sign = "\ue000"
	plain, err := godotenv.Unmarshal(strings.ReplaceAll(string(data), "$", sign))
	if err != nil {
		return
	}
	for _, f := range fields() {
		if f.secret && strings.ReplaceAll(plain[f.env], sign, "$") != l.dotenv[f.env] {
			l.warn("%s: a $ in %s was replaced as in a shell; if it is part of the secret, put the value in 'single quotes'", l.envName, f.env)
		}
	}
}
