package config

// Taken returns the settings that flags, the environment and a .env file have, by key,
// as pgmedic.yaml would have them: no secrets, and nothing that is more than one value.
func (c *Config) Taken() map[string]string {
	taken := map[string]string{}
	for _, f := range fields() {
		origin := c.Origin(f.key)
		if origin.Source < SourceEnvFile || f.secret || f.rule == "url" || f.isList() || f.isMap() {
			continue
		}
		if value := f.text(c); value != "" && value != f.def {
			taken[f.key] = value
		}
	}
	return taken
}
