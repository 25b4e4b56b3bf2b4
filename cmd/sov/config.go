package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sovereign-sql/sov/internal/host/settings"
)

// configReport is the output of `sov config --json`.
type configReport struct {
	File     string          `json:"file"`
	Exists   bool            `json:"exists"`
	Settings []configSetting `json:"settings"`
}

type configSetting struct {
	Key      string          `json:"key"`
	Values   []string        `json:"values"` // one value, or those of a list; empty: the command's default
	From     settings.Origin `json:"from"`
	Where    string          `json:"where,omitempty"` // the variable's name, or the file's path and line
	Flag     string          `json:"flag"`
	Variable string          `json:"variable"`
	Default  string          `json:"default"` // in words
}

func newConfig() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "config",
		Short: "Show the settings and the source of each",
		Long: `Show the default values of flags and the source of each: an environment variable, the configuration
file, or the built-in default. A flag on the command line overrides all of them. The file is
$SOV_CONFIG, or else config.yaml in sov's configuration folder (on Linux ~/.config/sov).
docs/configuration.md describes it.`,
		Example: "  sov config\n  sov config --json",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := settings.Load(os.Getenv)
			if err != nil {
				return err
			}
			report := configReport{File: s.Path, Exists: s.Exists}
			for _, setting := range settings.All {
				v := s.Get(setting.Key)
				if setting.Key == settings.CacheKey && settings.InPEM(v.One()) {
					v.Values = []string{"keys in PEM"} // one may be private
				}
				report.Settings = append(report.Settings, configSetting{
					Key: setting.Key, Values: append([]string{}, v.Values...), From: v.From, Where: v.Where,
					Flag: setting.Flag, Variable: setting.Variable, Default: setting.Default,
				})
			}
			return printResult(c.OutOrStdout(), asJSON, report, func(p *printer) { printConfig(p, report) })
		},
	}
	jsonFlag(c, &asJSON)
	return c
}

func printConfig(p *printer, r configReport) {
	table := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SETTING\tVALUE\tFROM")
	for _, s := range r.Settings {
		if len(s.Values) == 0 {
			fmt.Fprintf(table, "%s\t(%s)\tdefault\n", s.Key, s.Default)
		}
		for i, value := range s.Values {
			key, where := s.Key, s.Where
			if s.From == settings.FromDefault {
				where = "default"
			}
			if i > 0 {
				key, where = "", ""
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", key, value, where)
		}
	}
	p.err = table.Flush()
	if !r.Exists {
		p.printf("there is no configuration file: write %s, see docs/configuration.md\n", r.File)
	}
}
