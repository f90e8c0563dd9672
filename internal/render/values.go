package render

import (
	"strconv"
	"strings"
	"time"

	"github.com/pgmedic/pgmedic"
	"github.com/pgmedic/pgmedic/internal/monitor/reading"
	"github.com/pgmedic/pgmedic/internal/words"
)

// KeptAs says what a kept database is and how old, without its name and its size.
func KeptAs(k reading.KeptDatabase) string {
	phrase := "a restore or a drill of " + k.Of + " made it"
	switch k.State {
	case "kept":
		phrase = "set aside when " + k.Of + " was replaced"
	case "dropping":
		phrase = "its DROP DATABASE was begun"
	}
	return phrase + ", " + words.Aged(k.AgeSeconds)
}

// PIDs joins process ids.
func PIDs(all []int) string {
	texts := make([]string, len(all))
	for i, pid := range all {
		texts[i] = strconv.Itoa(pid)
	}
	return strings.Join(texts, ",")
}

// RowsShown is how many lines a table of a section has.
const RowsShown = 10

// Claimed says that this host could not tell who wrote a proof.
func Claimed(b *reading.BackupState) string {
	if b.Claimed {
		return "claimed: "
	}
	return ""
}

// FactWords writes a piece of evidence for people: its name without its unit, and its
// value with one.
func FactWords(e pgmedic.Evidence) (name, value string) {
	name, value = e.Name, e.Value
	number, err := strconv.ParseFloat(value, 64)
	whole, wholeErr := strconv.ParseInt(value, 10, 64)
	moment, timeErr := time.Parse(time.RFC3339, value)
	switch {
	case strings.HasSuffix(name, "_bytes") && wholeErr == nil:
		name, value = strings.TrimSuffix(name, "_bytes"), words.Bytes(whole)
	case strings.HasSuffix(name, "_seconds") && err == nil:
		name, value = strings.TrimSuffix(name, "_seconds"), words.Seconds(number)
	case strings.HasSuffix(name, "_percent") && err == nil:
		name, value = strings.TrimSuffix(name, "_percent"), words.Percent(number)
	case wholeErr == nil:
		value = words.Count(whole)
	case timeErr == nil:
		value = moment.UTC().Format("2006-01-02 15:04 UTC")
	}
	return strings.ReplaceAll(name, "_", " "), value
}

// Lag writes a lag that the server measures only while there is one.
func Lag(s *float64) string {
	if s == nil {
		return "-"
	}
	return words.Seconds(*s)
}

// SettingValue writes a setting with the unit that a reader wants.
func SettingValue(s reading.Setting) string {
	n, err := strconv.ParseInt(s.Value, 10, 64)
	if err != nil || n < 0 {
		return s.Value
	}
	switch s.Unit {
	case "B":
		return words.Bytes(n)
	case "kB":
		return words.Bytes(n << 10)
	case "8kB":
		return words.Bytes(n << 13)
	case "MB":
		return words.Bytes(n << 20)
	case "ms":
		return words.Duration(time.Duration(n) * time.Millisecond)
	case "s":
		return words.Duration(time.Duration(n) * time.Second)
	case "min":
		return words.Duration(time.Duration(n) * time.Minute)
	case "":
		return s.Value
	default:
		return s.Value + " " + s.Unit
	}
}

// TablesShown bounds the table of tables.
const TablesShown = 20
