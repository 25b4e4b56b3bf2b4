package postgres

import (
	"github.com/sovereign-sql/sov/internal/contract/guestspec"
	"github.com/sovereign-sql/sov/internal/contract/recipe"
)

// tlsDir is in memory and has the server's certificate and key.
const tlsDir = "/run/postgres-tls"

// Files in tlsDir: the machine's certificate with its key, or the user's two secrets.
const (
	ownFile         = tlsDir + "/server.pem"
	certificateFile = tlsDir + "/server.crt"
	keyFile         = tlsDir + "/server.key"
)

// encrypted reports whether this server offers TLS for the recipe.
func (s *Server) encrypted(r *recipe.Recipe) bool { return s.TLS && r.Postgres.Encrypted() }

// withTLS adds the settings that enable TLS.
func withTLS(values map[string]string, r *recipe.Recipe) {
	values["ssl"] = "on"
	values["ssl_cert_file"], values["ssl_key_file"] = quote(ownFile), quote(ownFile)
	if r.Postgres.TLS.Certificate != "" {
		values["ssl_cert_file"], values["ssl_key_file"] = quote(certificateFile), quote(keyFile)
	}
	const minimum = "ssl_min_protocol_version"
	if _, own := r.Postgres.Settings[minimum]; !own {
		values[minimum] = quote("TLSv1.2")
	}
}

// certify adds the certificate to the service.
func certify(service *guestspec.Service, p recipe.Postgres) {
	if p.TLS.Certificate == "" {
		service.Certificate, service.TailnetCertificate = ownFile, p.TailnetCertificate()
		return
	}
	service.Secrets = append(service.Secrets,
		guestspec.SecretFile{Secret: p.TLS.Certificate, Path: certificateFile},
		guestspec.SecretFile{Secret: p.TLS.Key, Path: keyFile})
}
