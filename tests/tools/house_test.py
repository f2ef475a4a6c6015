#!/usr/bin/env python3
"""The check of the house finds what it is there to find, and passes the tree.

usage: house_test.py ROOT
"""
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.abspath(sys.argv.pop(1))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import house  # noqa: E402


def findings(path, text):
    return house.check_file(path, text, ROOT)


class HouseTest(unittest.TestCase):
    def assert_found(self, path, text, words):
        found = findings(path, text)
        self.assertEqual(len(found), 1, found)
        self.assertIn(words, found[0])

    def test_the_tree_passes(self):
        self.assertEqual(house.check(ROOT), [])

    def test_an_include_never_goes_up_the_ladder(self):
        self.assert_found("kernels/a.cc", '#include "proto/wire.h"', "kernels/ may not include proto/")
        self.assert_found("proto/a.cc", '#include "server/rounds.h"', "proto/ may not include server/")
        self.assert_found("server/a.cc", '#include "client/session.h"', "server/ may not include client/")
        self.assert_found("client/a.cc", '#include "server/server.h"', "client/ may not include server/")
        self.assert_found("client/a.cc", '#include "tests/support/x.h"', "may not include tests/")
        self.assert_found("client/a.cc", '#include "python/src/group.h"',
                          "client/ may not include python/")
        self.assert_found("python/src/a.cc", '#include "server/server.h"',
                          "python/ may not include server/")
        self.assertEqual(findings("python/src/a.cc", '#include "client/norms/backend.h"'), [])

    def test_installed_headers_are_held_to_the_ladder_too(self):
        self.assert_found("kernels/a.cc", "#include <syncnorm/group.h>", "kernels/ may not include client/")
        self.assert_found("server/a.cc", "#include <syncnorm/group.h>", "server/ may not include client/")
        self.assertEqual(findings("server/embedded.cc", "#include <syncnorm/embedded.h>"), [])
        self.assert_found("client/a.cc", "#include <syncnorm/nothing.h>", "no installed header")

    def test_third_parties_stay_in_their_rooms(self):
        self.assert_found("server/rounds.cc", "#include <grpcpp/grpcpp.h>", "gRPC is fenced")
        self.assert_found("client/session.cc", '#include "syncnorm/v1/syncnorm.pb.h"', "protobuf is fenced")
        self.assert_found("kernels/scalar/a.cc", '#include "hwy/highway.h"', "Highway is fenced")
        self.assert_found("client/group.cc", "#include <torch/torch.h>", "LibTorch is fenced")
        self.assert_found("client/a.cc", "#include <pybind11/pybind11.h>", "Python is fenced")
        self.assertEqual(findings("python/src/a.cc", "#include <pybind11/pybind11.h>"), [])
        self.assert_found("kernels/a.cc", "#include <immintrin.h>", "intrinsics is fenced")
        self.assert_found("server/access.cc", "#include <openssl/sha.h>", "OpenSSL is fenced")
        self.assertEqual(findings("client/tls_diagnosis.cc", "#include <openssl/ssl.h>"), [])
        self.assertEqual(findings("kernels/cpu/a.cc", '#include "hwy/highway.h"'), [])

    def test_the_clock_is_read_in_one_file(self):
        self.assert_found("server/a.cc", "auto t = std::chrono::steady_clock::now();", "real clock")
        self.assert_found("client/a.cc", "absl::Time t = absl::Now();", "real clock")
        self.assertEqual(findings("proto/clock.cc", "std::chrono::steady_clock::now()"), [])

    def test_a_header_is_a_contract(self):
        self.assert_found("server/a.h", "#pragma once\n", "starts with the comment")
        self.assert_found("server/a.h", "// A thing.\n", "no #pragma once")
        self.assertEqual(findings("kernels/cpu/a-inl.h", "// A body for each instruction set.\n"), [])

    def test_unfinished_work_is_found(self):
        self.assert_found("server/a.cc", "// TO" "DO: later", "unfinished")

    def test_a_test_that_nobody_registered_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "tests"))
            for name in ("tests/a_test.cc", "tests/CMakeLists.txt"):
                open(os.path.join(folder, name), "w").close()
            subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
            subprocess.run(["git", "add", "."], cwd=folder, check=True)
            found = house.check(folder)
            self.assertEqual(len(found), 1)
            self.assertIn("tests/a_test.cc:1: not registered", found[0])


if __name__ == "__main__":
    unittest.main()
