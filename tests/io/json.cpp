// The JSON of file headers: what is JSON reads and writes, what is not is an error.
#include <limits>

#include <support/catch.hpp>

#include <lowrank/io/json.hpp>

using lowrank::io::Json;

TEST_CASE("JSON that is valid reads, and writes compactly in the same order", "[io]") {
  const auto same = [](const char* text) { CHECK(Json::parse(text).dump() == text); };
  same(R"({"b":[1,-2.5e+10,0.5,true,false,null],"a":{"":"x"},"c":[],"d":{}})");
  same("18446744073709551615");
  same(R"("\"\\\n\r\t\b\f\u0001é€😀")");
  CHECK(Json::parse(" { \"a\" : [ 1 , 2 ] }\n").dump() == R"({"a":[1,2]})");
  CHECK(Json::parse(R"("\u00e9\u20ac\ud83d\ude00\/")").text == "é€😀/");
}

TEST_CASE("Text that is not JSON is an error", "[io]") {
  for (const char* text :
       {"", " ", "{", "}", "[", "[1", "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{\"a\":1,\"a\":2}", "\"abc",
        "\"\n\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "01", "-", "1.", ".5",
        "1e", "+1", "0x1", "NaN", "Infinity", "nul", "truefalse", "1 1", "\"\x80\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"",
        "\"\xf5\x80\x80\x80\"", "\"\xe2\x82\"", "'a'", "[1]]"}) {
    INFO(text);
    CHECK_THROWS_AS(Json::parse(text), std::runtime_error);
  }
  CHECK_THROWS_AS(Json::parse(std::string(100000, '[')), std::runtime_error);
}

TEST_CASE("Numbers keep their bits", "[io]") {
  for (const double x : {0.1, -1e-300, 1.7976931348623157e308, 5e-324, 3.0, 0.30000000000000004}) {
    double back = 0;
    const std::string text = Json::parse(Json::number(x).dump()).text;
    std::from_chars(text.data(), text.data() + text.size(), back);
    CHECK(back == x);
  }
  CHECK(Json::number(std::numeric_limits<double>::infinity()).dump() == "\"inf\"");
  std::uint64_t n = 0;
  CHECK(Json::parse("18446744073709551615").to_unsigned(n));
  CHECK(n == 18446744073709551615u);
  for (const char* text : {"18446744073709551616", "-1", "1.0", "1e3", "\"1\"", "null"}) CHECK_FALSE(Json::parse(text).to_unsigned(n));
}
