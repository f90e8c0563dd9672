package config

import (
	"strings"
	"time"
)

// Connection says how to reach the database. An empty URL, Host, Database,
// User or Password and a zero Port are not set: they are left to the URL where
// there is one, and to libpq's PG* variables, service and password files.
type Connection struct {
	// URL is database.direct_url, else database.url, unless the second comes
	// from a higher source than the first.
	URL Secret
	// FromURL is true where URL is set. The five fields below then hold only
	// what flags set; they go over the URL's parts.
	FromURL  bool
	Host     string
	Port     int
	Database string
	User     string
	Password Secret
	// ConnectTimeout is the longest wait for a connection; zero waits for
	// ever. Unless ConnectTimeoutSet it is a default that gives way to the
	// URL's own connect_timeout and to PGCONNECT_TIMEOUT.
	ConnectTimeout    time.Duration
	ConnectTimeoutSet bool
	// MaintenanceDatabase is where to connect for CREATE, ALTER and DROP
	// DATABASE. It is always set.
	MaintenanceDatabase string
}

// Connection returns how to reach the database. A URL overrides DB_HOST and
// the like, except over flags; those go over libpq's PG* variables, which in
// turn go over the defaults localhost and 5432.
func (c *Config) Connection() Connection {
	d := c.Database
	conn := Connection{
		URL:                 c.url(),
		ConnectTimeout:      d.ConnectTimeout,
		ConnectTimeoutSet:   c.origins["database.connect_timeout"].Given(),
		MaintenanceDatabase: d.MaintenanceDatabase,
	}
	conn.FromURL = conn.URL != ""
	wanted := func(key string) bool {
		source := c.origins["database."+key].Source
		if conn.FromURL {
			return source == SourceFlag
		}
		return source != SourceLibpq
	}
	if wanted("host") {
		conn.Host = d.Host
	}
	if wanted("port") {
		conn.Port = d.Port
	}
	if wanted("name") {
		conn.Database = d.Name
	}
	if wanted("user") {
		conn.User = d.User
	}
	if wanted("password") {
		conn.Password = d.Password
	}
	return conn
}

// url returns the URL to use. A direct_url of a lower source than url is that
// of another database more likely than not, and is not used.
func (c *Config) url() Secret {
	if c.Database.DirectURL == "" || c.origins["database.url"].Source > c.origins["database.direct_url"].Source {
		return c.Database.URL
	}
	return c.Database.DirectURL
}

// connectionWarnings warns where what a higher source sets is not used, or
// what the user set as the direct way is not.
func (l *loader) connectionWarnings(cfg *Config) {
	url, direct := cfg.origins["database.url"], cfg.origins["database.direct_url"]
	used, key := url, "database.url"
	switch {
	case direct.Given() && url.Source > direct.Source:
		l.warn("%s is not used: %s comes before it and may be of another database; set both in one place",
			direct.subject("database.direct_url"), url.subject("database.url"))
	case direct.Given():
		used, key = direct, "database.direct_url"
	}
	if !used.Given() {
		return
	}
	for _, part := range []string{"host", "port", "name", "user", "password"} {
		o := cfg.origins["database."+part]
		if o.Source > used.Source && o.Source != SourceFlag {
			l.warn("%s is not used: the URL of %s overrides it", o.subject("database."+part), used.subject(key))
		}
	}
}

// ReadReplicas returns the URLs of the configured standbys.
func (c *Config) ReadReplicas() []Secret { return ReplicaURLs(c.Database.ReadReplicaURL) }

// ReplicaURLs returns the URLs of a list, which commas, spaces or line ends separate. A comma
// within a URL stands between its hosts.
func ReplicaURLs(list Secret) []Secret {
	text := strings.TrimSpace(list.Reveal())
	if !strings.Contains(text, "://") && text != "" {
		return []Secret{Secret(text)} // no URL; whoever connects says so
	}
	var urls []Secret
	for _, word := range strings.Fields(text) {
		for i, part := range strings.Split(word, ",") {
			switch {
			case part == "":
			case i > 0 && len(urls) > 0 && !strings.Contains(part, "://"):
				urls[len(urls)-1] += Secret("," + part) // a further host of the same URL
			default:
				urls = append(urls, Secret(part))
			}
		}
	}
	return urls
}
