package apk_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/sovereign-sql/sov/internal/image/apk"
)

func ExampleCompareVersions() {
	fmt.Println(apk.CompareVersions("1.10", "1.9"), apk.CompareVersions("1.10_rc1", "1.10"), apk.CompareVersions("1.10-r1", "1.10-r0"))
	// Output: 1 -1 1
}

// Solve makes the same choices as apk: the highest versions, and dependencies before the packages
// that need them.
func ExampleSolve() {
	deps := func(list string) []apk.Dep {
		d, err := apk.ParseDeps(list)
		if err != nil {
			log.Fatal(err)
		}
		return d
	}
	packages := []*apk.Package{ // the checksum identifies a package
		{Checksum: "Q1a", Name: "nginx", Version: "1.26.3-r0", Depends: deps("so:libpcre2-8.so.0")},
		{Checksum: "Q1b", Name: "pcre2", Version: "10.43-r0", Provides: deps("so:libpcre2-8.so.0=0.12.0")},
		{Checksum: "Q1c", Name: "pcre2", Version: "10.46-r0", Provides: deps("so:libpcre2-8.so.0=0.14.0")},
	}
	repository := &apk.Repository{URL: "https://packages.example.com/main", Index: &apk.Index{Packages: packages}}
	solution, err := apk.Solve(apk.Request{World: deps("nginx"), Repositories: []*apk.Repository{repository}})
	if err != nil {
		log.Fatal(err)
	}
	for _, choice := range solution.Install {
		fmt.Println(choice.Name, choice.Version)
	}

	_, err = apk.Solve(apk.Request{World: deps("nginx>2"), Repositories: []*apk.Repository{repository}})
	fmt.Println(errors.As(err, new(*apk.Unsatisfiable)))
	// Output:
	// pcre2 10.46-r0
	// nginx 1.26.3-r0
	// true
}
