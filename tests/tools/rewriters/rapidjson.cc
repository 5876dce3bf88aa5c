#include "stdin.h"
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>

int main() {
    size_t size;
    rapidjson::Document json;
    rapidjson::StringBuffer out;
    rapidjson::Writer<rapidjson::StringBuffer> writer(out);
    json.Parse(read_stdin(&size));
    return json.HasParseError() || !json.Accept(writer) || fputs(out.GetString(), stdout) < 0;
}
